"""How much memory a model takes: estimated from its header, and told by an engine."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.model import memory
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.model.memory import estimate, measuring
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
    assert estimated() == Memory(32768, 32768, 0, 0, 0, False, 512 * 4 * (30 + 8 * 64), 1024, 512 * 4 * 32)


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


# MiB of caches and of buffers. 10 KiB for each token of context; windows of 100 MiB, and 128 KiB for each token of a
# batch; 40 MiB of states. In q8_0 everything but the states is 17/32 of that.
ENGINE = """#!/bin/sh
case "$*" in
  *" -ctk q8_0 "*) %s ;;
  *" -fa off "*) echo "Host 100 844 2116" ;;
  *" -c 65536 "*) echo "Host 100 844 130" ;;
  *" -ub 256 "*) echo "Host 100 252 37" ;;
  *) echo "Host 100 284 74" ;;
esac
"""
GUESS = Memory(1, 3, 0, 0, 0, False, 4, 5, 6)


def kit_with(small_kit: Kit, folder: Path, engine: str) -> Kit:
    shutil.copytree(small_kit.path, folder)
    (folder / "bindings").mkdir()
    (folder / "members/native/mkllm-engine").write_text(engine)
    return Kit.read(folder)


def told(kit: Kit, tmp_path: Path) -> Memory | None:
    with measuring(kit, tmp_path / "m.gguf", GUESS) as measurement:
        return measurement.wait()


def test_the_engine_is_asked(small_kit: Kit, tmp_path: Path) -> None:
    """5120 elements a token are one to three as in the estimate."""
    found = told(kit_with(small_kit, tmp_path / "kit", ENGINE % "echo Host 100 170 74"), tmp_path)
    assert found and (found.cache_keys, found.cache_values, found.cache_cell) == (1280, 3840, 128 << 10)
    assert (found.compute, found.compute_token, found.compute_token_unfused) == (66 << 20, 1024, 32800)
    assert found.cache_quantized and found.cache_window + found.cache_state == (204 - 64) << 20
    assert abs(found.cache_state - (40 << 20)) < 4 << 20


def test_a_model_whose_caches_cannot_be_quantized(small_kit: Kit, tmp_path: Path) -> None:
    found = told(kit_with(small_kit, tmp_path / "kit", ENGINE % "exit 1"), tmp_path)
    assert found and not found.cache_quantized
    assert (found.cache_window, found.cache_state) == (140 << 20, 0)


def test_an_answer_that_does_not_come_is_no_refusal(
    small_kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SECONDS", 0.5)
    assert told(kit_with(small_kit, tmp_path / "kit", ENGINE % "exec sleep 60"), tmp_path) is None


@pytest.mark.parametrize("engine", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho what\n", "#!/bin/sh\n", "no program"])
def test_an_engine_that_does_not_say(engine: str, small_kit: Kit, tmp_path: Path) -> None:
    assert told(kit_with(small_kit, tmp_path / "kit", engine), tmp_path) is None


def test_a_kit_of_another_system_gets_the_estimate(small_kit: Kit, tmp_path: Path) -> None:
    assert told(small_kit, tmp_path) == GUESS


def test_an_engine_that_hangs_ends_with_the_block(small_kit: Kit, tmp_path: Path) -> None:
    kit = kit_with(small_kit, tmp_path / "kit", f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 600\n")
    with pytest.raises(KeyboardInterrupt), measuring(kit, tmp_path / "m.gguf", GUESS):
        while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 5:
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not any(psutil.pid_exists(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_latent_attention_has_no_values(estimated: Callable[..., Memory]) -> None:
    assert estimated(llama__attention__key_length_mla=192).cache_values == 0
