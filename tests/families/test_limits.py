"""What builder/convert/limits.toml says of llama.cpp is true, and `mkllm build` says it with the same words."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from families.conftest import LONG, Build, Reference
from families.family import FAMILIES, PROMPTS, REFUSED, Family, of_kind
from families.test_decoders import LARGEST, NOTICED, look
from predictions import ask, divergence, predicted

from mkllm.builder.convert.limits import Only, limits, of_window

# Families, keys and values that llama.cpp passes over: one of each limit at least, and of each way a layer is computed.
PASSED_OVER: list[tuple[str, str, Any]] = [
    ("bloom", "apply_residual_connection_post_layernorm", True),
    ("command-r", "hidden_act", "gelu"),
    ("deepseek-v2", "hidden_act", "gelu"),
    ("falcon-7b", "activation", "relu"),
    ("falcon-7b", "alibi", True),
    ("gemma", "hidden_act", "silu"),
    ("gemma2", "hidden_activation", "silu"),
    ("gpt-neox", "hidden_act", "relu"),
    ("gpt2", "activation_function", "relu"),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ("llama-2", "hidden_act", "gelu"),
    ("olmo", "hidden_act", "gelu"),
    ("phi-2", "hidden_act", "relu"),
    ("phi-3", "hidden_act", "gelu"),
    ("qwen3", "hidden_act", "gelu"),
    ("starcoder", "activation_function", "relu"),
    ("starcoder2", "hidden_act", "relu"),
]
REFUSED_ANYWAY = {"parallel_attn"}  # by the engine too, in words that nobody understands: there are other tensors
ELSEWHERE = {"BertForSequenceClassification", "DistilBertForSequenceClassification"}  # end_to_end/test_rerankers.py
WINDOW = 16


def refused(mkllm: Path, folder: Path) -> str:
    words = [mkllm, "build", folder, "-o", folder.with_name("refused")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 50, done.stderr
    return done.stderr


def limit_of(architecture: str, key: str) -> Only:
    (found,) = (one for one in limits() if one.key == key and architecture in one.architectures)
    return found


def architecture_of(name: str) -> str:
    (found,) = (one.rest["architecture"] for one in FAMILIES if one.name == name)
    return str(found)


def test_every_limit_is_tried() -> None:
    tried = {limit_of(architecture_of(name), key) for name, key, _ in PASSED_OVER}
    assert tried == {limit for limit in limits() if limit.values and limit.key not in REFUSED_ANYWAY}
    whole = {architecture for limit in limits() if not limit.values for architecture in limit.architectures}
    assert whole == {family.rest["named"] for family in of_kind(REFUSED)} | ELSEWHERE


@pytest.mark.parametrize("family", of_kind(REFUSED), ids=str)
def test_families_that_are_refused_as_the_table_says(
    family: Family, mkllm: Path, reference: Reference, tmp_path: Path
) -> None:
    folder = reference.make(family.name, tmp_path / family.name)
    assert family.note.removeprefix("refused: ") in refused(mkllm, folder)


@pytest.mark.parametrize(("name", "key", "value"), PASSED_OVER)
def test_what_is_refused_would_be_another_model(
    name: str, key: str, value: Any, mkllm: Path, reference: Reference, build: Build, serve: Any, tmp_path: Path
) -> None:
    folder = reference.make(name, tmp_path / name, **{key: value})
    config = json.loads((folder / "config.json").read_text())
    limit = limit_of(config["architectures"][0], key)
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
