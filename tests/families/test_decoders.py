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
# By default caches are in 16 bits, and attention is computed from those: that alone is a KL of some 1e-6.
ENGINE = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off")
EXACT = tuple(word for arg in ENGINE for word in ("--engine-arg", arg))
OPTIONS = {"f32": EXACT, "q8_0": ("--quant", "Q8_0")}
NOTICED = 10 * LARGEST["f32"]
SEEN = 1e-6


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
    apart = sum(divergence(right, one) for right, one in pairs) / len(pairs)
    return Seen(tokens, apart, sum(max(one, key=one.__getitem__) == right.index(max(right)) for right, one in pairs))


def figure(divergence: float) -> str:
    """What is smaller than the figures of the API are exact is not told."""
    return f"{divergence:.1e}" if divergence >= SEEN else f"below {SEEN:.0e}"


def mean(wanted: Sequence[list[float]], found: Sequence[list[float]]) -> float:
    """The mean KL of two references."""
    return sum(divergence(one, dict(enumerate(other))) for one, other in zip(wanted, found, strict=True)) / len(wanted)


@pytest.mark.parametrize("family", of_kind(DECODER), ids=str)
def test_predictions_are_those_of_the_reference(
    family: Family, reference: Reference, build: Build, serve: Any, results: Results, tmp_path: Path
) -> None:
    folder = reference.make(family.name, tmp_path / family.name)
    prompts = reference.tokens(family.name, folder, PROMPTS)
    wanted = reference.predict(family.name, folder, prompts, dict(family.compared))
    seen = {}
    for kind, options in OPTIONS.items():
        out = build(folder, *options, *family.engine)
        with serve(out, "--no-tune") as server:
            seen[kind] = look(server.url, prompts, wanted)
        out.unlink()
    exact = seen["f32"]
    same = sum(one == other for one, other in zip(prompts, exact.tokens, strict=True))
    results.record(family.name, "tokens", same == len(PROMPTS), f"{same} of {len(PROMPTS)}")
    results.record(family.name, "top", exact.same == len(PROMPTS), f"{exact.same} of {len(PROMPTS)}")
    for kind, one in seen.items():
        results.record(family.name, kind, one.divergence < LARGEST[kind], figure(one.divergence))
    assert exact.tokens == prompts
    assert exact.same == len(PROMPTS)
    assert {kind: one.divergence < LARGEST[kind] for kind, one in seen.items()} == dict.fromkeys(LARGEST, True), seen
    for change in family.notices:
        other = reference.predict(family.name, folder, prompts, {**family.compared, **change})
        assert mean(wanted, other) > NOTICED, f"{change} would not be noticed"
    if family.compared:
        assert mean(reference.predict(family.name, folder, prompts), wanted) < NOTICED
