"""The sizes of a model from its header."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.model.shape import shape
from mkllm.runtime.artifact.manifest import Shape

HEADS = dict(
    llama__block_count=32,
    llama__embedding_length=4096,
    llama__attention__head_count=32,
    llama__attention__head_count_kv=8,
)


@pytest.fixture
def shape_of(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> Callable[..., Shape]:
    def read(**changes: Any) -> Shape:
        (tmp_path / "model.gguf").write_bytes(gguf_bytes(**{**HEADS, **changes}))
        header = read_gguf(tmp_path / "model.gguf")
        return shape(header, header.tensors, "llama")

    return read


def test_an_8b(shape_of: Callable[..., Shape]) -> None:
    assert shape_of() == Shape(layers=32, width=64, vocabulary=30, cache_keys=32768, cache_values=32768)


def test_heads_that_are_longer_than_the_width_says(shape_of: Callable[..., Shape]) -> None:
    found = shape_of(llama__attention__key_length=256, llama__attention__value_length=64)
    assert (found.cache_keys, found.cache_values) == (32 * 8 * 256, 32 * 8 * 64)


def test_heads_of_each_layer(shape_of: Callable[..., Shape]) -> None:
    found = shape_of(llama__attention__head_count_kv=[8, 0, 0, 8])
    assert (found.cache_keys, found.cache_values) == (16 * 128, 16 * 128)
    found = shape_of(llama__attention__head_count=[32, 16], llama__attention__head_count_kv=None)
    assert found.cache_keys == 48 * 128


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__attention__head_count": 0},
        {"llama__attention__head_count": None},
        {"llama__attention__head_count": "many"},
        {"llama__block_count": "many"},
        {"llama__attention__head_count_kv": 1 << 31, "llama__embedding_length": 1 << 31},
    ],
)
def test_headers_without_sense(changes: dict[str, Any], shape_of: Callable[..., Shape]) -> None:
    found = shape_of(**changes)
    assert (found.cache_keys, found.cache_values) == (0, 0)


def test_a_model_without_an_embedding(shape_of: Callable[..., Shape]) -> None:
    found = shape_of(tensors={"output.weight": ((64, 30), 8)})
    assert (found.width, found.vocabulary) == (0, 0)
