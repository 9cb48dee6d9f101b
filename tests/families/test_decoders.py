"""A model of each family, built as a user would: its tokens and next-token distributions are those of the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from families.conftest import Build, Reference
from families.family import DECODER, PROMPTS, Family, of_kind
from families.table import Results
from predictions import ask, divergence, predicted

LARGEST = {"f32": 1e-5, "q8_0": 1e-2}  # mean KL, in nats
QUANTIZING = {"f32": (), "q8_0": ("--quant", "Q8_0")}
NOTICED = 10 * LARGEST["f32"]


@dataclass(frozen=True)
class Seen:
    """`tokens`: of the prompts; `divergence`: the mean KL; `same`: of how many the likeliest token is the same."""

    tokens: list[list[int]]
    divergence: float
    same: int


def look(url: str, prompts: Sequence[list[int]], wanted: Sequence[list[float]]) -> Seen:
    tokens = [ask(url, "/tokenize", content=text, add_special=True)["tokens"] for text in PROMPTS]
    taken = ask(url, "/tokenize", content="a")["tokens"][-1]
    found = [predicted(url, ids, len(wanted[0]), taken) for ids in prompts]
    assert all(len(one) == len(wanted[0]) for one in found)
    pairs = list(zip(wanted, found, strict=True))
    mean = sum(divergence(right, one) for right, one in pairs) / len(pairs)
    return Seen(tokens, mean, sum(max(one, key=one.__getitem__) == right.index(max(right)) for right, one in pairs))


@pytest.mark.parametrize("family", of_kind(DECODER), ids=str)
def test_predictions_are_those_of_the_reference(
    family: Family, reference: Reference, build: Build, serve: Any, results: Results, tmp_path: Path
) -> None:
    folder = reference.make(family.name, tmp_path / family.name)
    prompts = reference.tokens(family.name, folder, PROMPTS)
    wanted = reference.predict(family.name, folder, prompts)
    seen = {}
    for kind, options in QUANTIZING.items():
        out = build(folder, *options, *family.engine)
        with serve(out, "--no-tune") as server:
            seen[kind] = look(server.url, prompts, wanted)
        out.unlink()
    exact = seen["f32"]
    same = sum(one == other for one, other in zip(prompts, exact.tokens, strict=True))
    results.record(family.name, "tokens", same == len(PROMPTS), f"{same} of {len(PROMPTS)}")
    results.record(family.name, "top", exact.same == len(PROMPTS), f"{exact.same} of {len(PROMPTS)}")
    for kind, one in seen.items():
        results.record(family.name, kind, one.divergence < LARGEST[kind], f"{one.divergence:.1e}")
    assert exact.tokens == prompts
    assert exact.same == len(PROMPTS)
    assert {kind: one.divergence < LARGEST[kind] for kind, one in seen.items()} == dict.fromkeys(LARGEST, True), seen
    for change in family.notices:
        other = reference.predict(family.name, folder, prompts, dict(change))
        changed = [divergence(right, dict(enumerate(one))) for right, one in zip(wanted, other, strict=True)]
        assert sum(changed) / len(changed) > NOTICED, f"{change} would not be noticed"
