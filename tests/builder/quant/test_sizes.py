"""Sizes told before anything is written; that the real files have them is for tests/end_to_end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.quant.sizes import file_size

GgufBytes = Callable[..., bytes]
TENSORS = {"token_embd.weight": ((64, 30), 0), "output.weight": ((64, 30), 0)}


def sized(path: Path, data: bytes, **chosen: str) -> int:
    path.write_bytes(data)
    return file_size([read_gguf(path)], {name.replace("__", "."): kind for name, kind in chosen.items()})


def test_the_same_types_take_the_same_size(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    path = tmp_path / "m.gguf"
    data = gguf_bytes(general__quantization_version=2)
    path.write_bytes(data)
    header = read_gguf(path)
    assert file_size([header], {tensor.name.decode(): tensor.type.name for tensor in header.tensors}) == len(data)


def test_other_types_change_the_data_alone(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    data = gguf_bytes(tensors=TENSORS, general__quantization_version=2)
    small = sized(tmp_path / "m.gguf", data, token_embd__weight="Q8_0", output__weight="F32")
    assert len(data) - small == 64 * 30 * 4 - 2048  # of 2040 bytes, padded


def test_keys_that_llama_adds_are_counted(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    data = gguf_bytes(tensors=TENSORS, general__file_type=None)
    kept = {"token_embd__weight": "F32", "output__weight": "F32"}
    whole = gguf_bytes(tensors=TENSORS, general__file_type=1, general__quantization_version=2)
    assert len(data) < len(whole) == sized(tmp_path / "m.gguf", data, **kept)


def test_dimensions_of_1_at_the_end_are_not_written(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    names = [f"blk.{number}.ffn_gate_inp_shexp.weight" for number in range(4)]
    shapes = [(64, 1), (64, 1, 1), (64, 2, 1), (64,)]
    short = [(64,), (64,), (64, 2), (64,)]  # as llama.cpp writes them: 32 bytes less
    kinds = [{name: (shape, 0) for name, shape in zip(names, kept, strict=True)} for kept in (shapes, short)]
    made = [gguf_bytes(tensors=tensors, general__quantization_version=2) for tensors in kinds]
    kept = {name.replace(".", "__"): "F32" for name in names}
    assert len(made[0]) > len(made[1]) == sized(tmp_path / "m.gguf", made[0], **kept)
    assert len(made[1]) == sized(tmp_path / "m.gguf", made[1], **kept)


def test_other_alignments_are_refused(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    data = gguf_bytes(tensors=TENSORS, general__alignment=64)
    with pytest.raises(UnusableModel, match="aligned to 64 bytes.*32 only"):
        sized(tmp_path / "m.gguf", data, token_embd__weight="F32", output__weight="F32")
