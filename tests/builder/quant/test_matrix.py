"""Which files give an importance matrix; computing one is for tests/end_to_end."""

import hashlib
from pathlib import Path

import pytest

from mkllm.builder.errors import ModelNotFound, UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output
from mkllm.builder.quant import imatrix
from mkllm.builder.quant.digest import sha256_of
from mkllm.builder.quant.matrix import matrix

QUIET = Output(True)


def test_a_ready_one_is_taken_as_it_is(small_kit: Kit, small_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    imatrix.write(path, {"blk.0.a.weight": ([1.0], [1])}, 1, 512, "t.txt")
    found = matrix(small_kit, resolve(str(small_gguf), QUIET), path, QUIET)
    assert found.path == path and found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_none_and_nonsense(small_kit: Kit, small_gguf: Path, tmp_path: Path) -> None:
    source, path = resolve(str(small_gguf), QUIET), tmp_path / "t"
    with pytest.raises(ModelNotFound, match="cannot be read .no such file.*name a text or an importance matrix"):
        matrix(small_kit, source, path, QUIET)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(UnusableModel, match="not UTF-8 text"):
        matrix(small_kit, source, path, QUIET)
    with pytest.raises(UnusableModel, match="no importance matrix"):
        matrix(small_kit, source, small_gguf, QUIET)


def test_hash_of_a_model(small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path))
    weights = resolve(str(small_gguf), QUIET).weights
    expected = hashlib.sha256(small_gguf.read_bytes()).hexdigest()
    assert [sha256_of(weights, "reading", QUIET) for _ in range(2)] == [expected, expected]
