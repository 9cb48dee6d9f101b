"""How much memory a model takes: estimated from its header, and told by an engine."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.model.memory import estimate, measure
from mkllm.runtime.artifact.manifest import Memory

HEADS = dict(
    llama__block_count=32,
    llama__embedding_length=4096,
    llama__attention__head_count=32,
    llama__attention__head_count_kv=8,
)


@pytest.fixture
def estimated(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> Callable[..., Memory]:
    def read(**changes: Any) -> Memory:
        (tmp_path / "model.gguf").write_bytes(gguf_bytes(**{**HEADS, **changes}))
        header = read_gguf(tmp_path / "model.gguf")
        return estimate(header, header.tensors, "llama")

    return read


def test_an_8b(estimated: Callable[..., Memory]) -> None:
    assert estimated() == Memory(32768, 32768, 0, 512 * 4 * (30 + 8 * 64), 1024)


def test_heads_that_are_longer_than_the_width_says(estimated: Callable[..., Memory]) -> None:
    found = estimated(llama__attention__key_length=256, llama__attention__value_length=64)
    assert (found.cache_keys, found.cache_values) == (32 * 8 * 256, 32 * 8 * 64)


def test_heads_of_each_layer(estimated: Callable[..., Memory]) -> None:
    found = estimated(llama__attention__head_count_kv=[8, 0, 0, 8])
    assert (found.cache_keys, found.cache_values) == (16 * 128, 16 * 128)
    found = estimated(llama__attention__head_count=[32, 16], llama__attention__head_count_kv=None)
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
def test_headers_without_sense(changes: dict[str, Any], estimated: Callable[..., Memory]) -> None:
    found = estimated(**changes)
    assert (found.cache_keys, found.cache_values) == (0, 0)


def test_a_model_without_an_embedding(estimated: Callable[..., Memory]) -> None:
    found = estimated(tensors={"output.weight": ((64, 30), 8)})
    assert found.compute == 0


ENGINE = """#!/bin/sh
case "$*" in
  *" -c 4096 "*) echo "Host 100 140 70" ;;
  *" -ctk f16 "*) echo "Host 100 740 130" ;;
  *) echo "Host 100 590 130" ;;
esac
"""


def kit_with(small_kit: Kit, folder: Path, engine: str) -> Kit:
    shutil.copytree(small_kit.path, folder)
    (folder / "bindings").mkdir()
    (folder / "members/native/mkllm-engine").write_text(engine)
    return Kit.read(folder)


def test_the_engine_is_asked(small_kit: Kit, tmp_path: Path) -> None:
    """600 MiB more for 61440 tokens more: 10240 bytes each; 150 MiB less with keys of 34 bytes instead of 64."""
    found = measure(kit_with(small_kit, tmp_path / "kit", ENGINE), tmp_path / "m.gguf", Memory(0, 0, 0, 0, 0))
    assert found == Memory(2560, 2560, 100 << 20, 66 << 20, 1024)


@pytest.mark.parametrize("engine", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho what\n", "#!/bin/sh\n", "no program"])
def test_where_the_engine_does_not_say_the_estimate_holds(engine: str, small_kit: Kit, tmp_path: Path) -> None:
    guess = Memory(1, 2, 3, 4, 5)
    assert measure(kit_with(small_kit, tmp_path / "kit", engine), tmp_path / "m.gguf", guess) == guess
    assert measure(small_kit, tmp_path / "m.gguf", guess) == guess
