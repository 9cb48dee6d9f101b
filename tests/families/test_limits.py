"""What builder/convert/limits.toml says of llama.cpp is true, and `mkllm build` says it with the same words."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from families.conftest import LONG, Build, Reference
from families.family import PROMPTS, REFUSED, Family, of_kind
from families.test_decoders import LARGEST, NOTICED, look
from predictions import ask, divergence, predicted

from mkllm.builder.convert.limits import limits, of_window

# A family of each limit, and what else makes it a model of that kind.
PASSED_OVER = {
    "alibi": ("falcon-7b", {}),
    "activation_function": ("gpt2", {}),
    "scale_attn_by_inverse_layer_idx": ("gpt2", {}),
    "hidden_act": ("llama-2", {}),
    "apply_residual_connection_post_layernorm": ("bloom", {}),
}
OTHERS = {"activation_function": "relu", "hidden_act": "gelu"}
REFUSED_ANYWAY = {"parallel_attn"}  # by the engine too, in words that nobody understands: there are other tensors
WINDOW = 16


def refused(mkllm: Path, folder: Path) -> str:
    words = [mkllm, "build", folder, "-o", folder.with_name("refused")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 50, done.stderr
    return done.stderr


def test_every_limit_is_tried() -> None:
    assert {limit.key for limit in limits() if limit.values} == set(PASSED_OVER) | REFUSED_ANYWAY
    whole = {architecture for limit in limits() if not limit.values for architecture in limit.architectures}
    assert whole == {family.rest["named"] for family in of_kind(REFUSED)}


@pytest.mark.parametrize("family", of_kind(REFUSED), ids=str)
def test_families_that_are_refused_as_the_table_says(
    family: Family, mkllm: Path, reference: Reference, tmp_path: Path
) -> None:
    folder = reference.make(family.name, tmp_path / family.name)
    assert family.note.removeprefix("refused: ") in refused(mkllm, folder)


@pytest.mark.parametrize("key", PASSED_OVER)
def test_what_is_refused_would_be_another_model(
    key: str, mkllm: Path, reference: Reference, build: Build, serve: Any, tmp_path: Path
) -> None:
    name, more = PASSED_OVER[key]
    folder = reference.make(name, tmp_path / name, **more, **{key: OTHERS.get(key, True)})
    config = json.loads((folder / "config.json").read_text())
    limit = next(one for one in limits() if one.key == key)
    assert limit.why in refused(mkllm, folder)
    prompts = reference.tokens(name, folder, PROMPTS)
    wanted = reference.predict(name, folder, prompts)
    (folder / "config.json").write_text(json.dumps({**config, key: limit.values[0]}))  # as llama.cpp reads it
    same = reference.predict(name, folder, prompts)
    with serve(build(folder), "--no-tune") as server:
        assert look(server.url, prompts, wanted).divergence > NOTICED
        assert look(server.url, prompts, same).divergence < LARGEST["f32"]


def test_a_window_that_is_not_applied(
    reference: Reference, build: Build, serve: Any, mkllm: Path, tmp_path: Path
) -> None:
    folder = reference.make("mistral", tmp_path / "mistral", sliding_window=WINDOW)
    words = [mkllm, "build", folder, "-o", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and of_window(str(folder), WINDOW) in done.stderr
    prompts = reference.tokens("mistral", folder, PROMPTS)
    wanted = reference.predict("mistral", folder, prompts)
    with serve(tmp_path / "out", "--no-tune") as server:
        taken = ask(server.url, "/tokenize", content="a")["tokens"][-1]
        found = [predicted(server.url, ids, len(wanted[0]), taken) for ids in prompts]
    apart = [(len(ids), divergence(right, one)) for ids, right, one in zip(prompts, wanted, found, strict=True)]
    within = [one for length, one in apart if length <= WINDOW]
    assert len(within) > 1 and max(within) < 10 * LARGEST["f32"]
    assert min(one for length, one in apart if length > 2 * WINDOW) > NOTICED
