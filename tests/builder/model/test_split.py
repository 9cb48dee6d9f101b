"""Split models: any part names the whole, and what comes out is the GGUF file that was split."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import BuilderFailure, ModelNotFound, UnusableModel
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.model.reference import resolve
from mkllm.builder.model.split import merged, part_names, read_parts
from mkllm.builder.progress import Output

GgufBytes = Callable[..., bytes]
TENSORS = {
    "token_embd.weight": ((64, 30), 8),
    "blk.0.attn_norm.weight": ((65,), 0),
    "blk.1.attn_norm.weight": ((3,), 0),
    "output.weight": ((64, 30), 8),
}


def split_keys(number: int, count: int, tensors: int) -> dict[str, object]:
    return {"split.no": number, "split.count": count, "split.tensors.count": tensors}


@pytest.fixture
def parts(tmp_path: Path, gguf_bytes: GgufBytes) -> list[Path]:
    """Three parts: the first with all keys and no tensors, as `--no-tensor-first-split` makes them."""
    from_names = [[], ["token_embd.weight", "blk.0.attn_norm.weight"], ["blk.1.attn_norm.weight", "output.weight"]]
    paths = []
    for number, names in enumerate(from_names):
        path = tmp_path / f"big-{number + 1:05}-of-00003.gguf"
        tensors = {name: TENSORS[name] for name in names}
        keys = {f"{name}".replace(".", "__"): value for name, value in split_keys(number, 3, 4).items()}
        own = {"keys": None} if number == 0 else {"keys": {}}
        path.write_bytes(gguf_bytes(tensors=tensors, **own, **keys))
        paths.append(path)
    return paths


def content(path: Path) -> bytes:
    weights = merged(read_parts(path))
    return weights.read(0, weights.size)


def test_names() -> None:
    assert part_names("a-00002-of-00003.gguf") == [f"a-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for name in ("a.gguf", "a-00004-of-00003.gguf", "a-00000-of-00000.gguf", "a-2-of-3.gguf", "-00001-of-00001.gguf"):
        assert part_names(name) == [name]


def test_the_whole_comes_out_of_any_part(parts: list[Path], gguf_bytes: GgufBytes, tmp_path: Path) -> None:
    whole = gguf_bytes(tensors=TENSORS)
    for part in parts:
        assert content(part) == whole
    (tmp_path / "whole.gguf").write_bytes(content(parts[1]))
    assert len(read_gguf(tmp_path / "whole.gguf").tensors) == 4


def test_the_model_is_named_after_the_whole(parts: list[Path]) -> None:
    source = resolve(str(parts[1]), Output(True))
    assert source.name == "big" and source.path == parts[0] and source.model.parameters == 3840 + 68
    assert source.weights.files == set(parts)


def test_another_alignment_is_kept(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    """Parts after the first do not repeat the alignment, but are written with it or with the usual one."""
    first = {**split_keys(0, 2, 4), "general.alignment": 128}
    data = gguf_bytes(tensors={}, **{name.replace(".", "__"): value for name, value in first.items()})
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(data)
    second = {name.replace(".", "__"): value for name, value in split_keys(1, 2, 4).items()}
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(gguf_bytes(keys={}, tensors=TENSORS, **second))
    assert content(tmp_path / "m-00001-of-00002.gguf") == gguf_bytes(tensors=TENSORS, general__alignment=128)


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[2].unlink()
    with pytest.raises(ModelNotFound, match="is one of 3 parts, and 'big-00003-of-00003.gguf' is not beside it"):
        read_parts(parts[0])
    with pytest.raises(ModelNotFound, match="there is no file"):
        read_parts(parts[2])


def test_a_part_with_another_name_is_refused(parts: list[Path], tmp_path: Path) -> None:
    os.rename(parts[1], tmp_path / "other.gguf")
    with pytest.raises(UnusableModel, match=r"is part 2 of a model in 3 parts.*'-00002-of-00003.gguf'"):
        read_parts(tmp_path / "other.gguf")


def test_parts_that_do_not_belong_together(parts: list[Path], gguf_bytes: GgufBytes) -> None:
    saved = parts[2].read_bytes()
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(UnusableModel, match=r"does not fit .*part 1 \(from 0\) of 3"):
        read_parts(parts[0])
    parts[2].write_bytes(gguf_bytes(keys={}, split__no=2, split__count=3))
    with pytest.raises(UnusableModel, match="its parts hold 5 tensors, not 4 different ones"):
        read_parts(parts[0])
    parts[2].write_bytes(saved[: len(saved) - 500])
    with pytest.raises(BuilderFailure, match="but the file has"):
        read_parts(parts[0])
    parts[2].write_bytes(saved)
    assert len(read_parts(parts[0])) == 3
