"""Adapters that are to be merged: which tensors they change, and what is refused before anything is written."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mkllm.builder.commands.build import build
from mkllm.builder.errors import UnusableAdapter
from mkllm.builder.merged import changes
from mkllm.builder.model.gguf import Tensor, read_gguf

F32 = 0
MODEL = {
    b"token_embd.weight": (32, 300),
    b"blk.0.attn_q.weight": (32, 64),
    b"blk.0.ffn_up_exps.weight": (32, 64, 4),
    b"blk.0.attn_norm.weight": (32,),
}
TENSORS = {name: Tensor(name, shape, F32, 0) for name, shape in MODEL.items()}
KEYS = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0}


def pair(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], int]]:
    return {f"{name}.lora_a": (first, F32), f"{name}.lora_b": (second, F32)}


@pytest.fixture
def changed(tmp_path: Path, gguf_bytes: Any) -> Any:
    def changing(tensors: dict[str, tuple[tuple[int, ...], int]], **keys: Any) -> list[bytes]:
        (tmp_path / "a.gguf").write_bytes(gguf_bytes({**KEYS, **keys}, tensors))
        return [tensor.name for tensor in changes(read_gguf(tmp_path / "a.gguf"), TENSORS, "m")]

    return changing


def test_which_tensors_an_adapter_changes(changed: Any) -> None:
    tensors = pair("blk.0.attn_q.weight", (32, 4), (4, 64)) | pair("token_embd.weight", (4, 300), (4, 32))
    assert changed(tensors | {"blk.0.attn_norm.weight": ((32,), F32)}) == [b"blk.0.attn_q.weight", b"token_embd.weight"]
    assert changed(pair("blk.0.attn_q.weight", (32,), (1, 64))) == [b"blk.0.attn_q.weight"]  # of rank 1


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (pair("blk.0.attn_q.weight", (64, 4), (4, 64)), "has 64x4 and 4x64 for 'blk.0.attn_q.weight', which is 32x64"),
        (pair("blk.0.attn_q.weight", (32, 4), (8, 64)), "has 32x4 and 8x64"),
        (pair("token_embd.weight", (32, 4), (4, 300)), "has 32x4 and 4x300 for 'token_embd.weight'"),
        (pair("blk.1.attn_q.weight", (32, 4), (4, 64)), "changes 'blk.1.attn_q.weight', which 'm' does not have"),
        (pair("blk.0.ffn_up_exps.weight", (32, 4, 4), (4, 64, 4)), "weights of experts, which are not merged"),
        ({"blk.0.attn_q.weight.lora_a": ((32, 4), F32)}, "has only a part of what changes 'blk.0.attn_q.weight'"),
        ({"blk.0.attn_q.bias": ((64,), F32)}, "has only a part of what changes 'blk.0.attn_q.bias'"),
        ({"blk.0.attn_norm.weight": ((32,), F32)}, "changes nothing"),
    ],
)
def test_what_is_refused(changed: Any, tensors: dict[str, Any], why: str) -> None:
    with pytest.raises(UnusableAdapter, match="^the adapter 'a.gguf' cannot be merged: it ") as raised:
        changed(tensors)
    assert why in str(raised.value) and raised.value.exit_code == 55


def test_one_that_waits_for_words(changed: Any) -> None:
    with pytest.raises(UnusableAdapter, match="is for the tokens behind some words alone: leave out --merge-lora"):
        changed(pair("blk.0.attn_q.weight", (32, 4), (4, 64)), **{"adapter.alora.invocation_tokens": [1, 2]})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--merge-lora"], "--merge-lora merges the adapters of --lora: name one with it"),
        (["--lora", "a.gguf", "--lora-scale", "2"], "--lora-scale is for adapters that are merged: add --merge-lora"),
        (["--lora", "a.gguf", "--merge-lora", "--lora-scale", "101"], "is not in the range"),
    ],
)
def test_options_that_go_together(words: list[str], why: str) -> None:
    done = CliRunner().invoke(build, ["demo", *words])
    assert done.exit_code == 2 and why in " ".join(done.output.replace("│", " ").split())
