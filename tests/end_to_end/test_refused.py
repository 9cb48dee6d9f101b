"""Models that read well and that the kit's own engine cannot load are refused when they are built."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from bench import random_gguf

LONG = 120  # seconds
TINY = random_gguf.SHAPES["tiny"]


def refused(mkllm: Path, model: Path) -> str:
    out = model.with_suffix("")
    words = [mkllm, "build", model, "-o", out]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 11 and sorted(model.parent.iterdir()) == [model], done.stderr
    begin, _, rest = done.stderr.strip().splitlines()[-1].partition(f"the engine cannot load {str(model)!r} (")
    assert begin == "mkllm: " and rest.endswith("): get another version of this model")
    return rest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    out = tmp_path / "tiny.gguf"
    random_gguf.write(out, TINY, "Q8_0")
    return out


def test_a_tensor_of_another_name(mkllm: Path, model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight", 1))
    assert "tensor 'blk.1.ffn_up.weight' not found" in refused(mkllm, model)


def test_a_tensor_that_it_does_not_know(mkllm: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, more = random_gguf._tensors, random_gguf.Tensor("blk.0.unknown.weight", (256,), "F32")
    monkeypatch.setattr(random_gguf, "_tensors", lambda shape, *types: [*make(shape, *types), more])
    random_gguf.write(model, TINY, "Q8_0")
    assert "wrong number of tensors; expected 22, got 21" in refused(mkllm, model)


def test_more_rows_than_tokens(mkllm: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As converters leave it that pad a table of tokens."""
    make = random_gguf._tensors
    padded = replace(TINY, vocabulary=TINY.vocabulary + 8)
    monkeypatch.setattr(random_gguf, "_tensors", lambda shape, *types: make(padded, *types))
    random_gguf.write(model, TINY, "Q8_0")
    assert "tensor 'token_embd.weight' has wrong shape; expected 256, 1024" in refused(mkllm, model)
