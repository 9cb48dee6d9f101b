"""How much memory a model takes beside its weights: told by the kit's own engine, else estimated from the header."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.model.gguf import Gguf, Tensor
from mkllm.runtime.artifact.manifest import Memory

SECONDS = 30
SHORT, LONG = 4096, 65536  # contexts to measure with: far apart, since the engine tells whole MiB
BATCH = 512  # the engine's own; what is said of compute buffers is said for it
MIB = 1 << 20
F16, Q8_0 = 2.0, 34 / 32  # bytes per element
EMBEDDING = b"token_embd.weight"
MOST = 1 << 40  # what is larger makes no sense


def measure(kit: Kit, path: Path, estimate: Memory) -> Memory:
    """Ask the engine, which lays out everything and allocates nothing. Takes half a second; nothing is loaded.

    Returns `estimate` where the engine does not run or does not say.
    """
    if not (kit.path / "bindings").is_dir():
        return estimate
    try:
        short, long, half = (
            _ask(kit, path, *words)
            for words in ((SHORT, "f16"), (LONG, "f16"), (LONG, "q8_0"))  # type of the cache of keys
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return estimate
    token = (long[0] - short[0]) / (LONG - SHORT)
    keys = max(0.0, (long[0] - half[0]) / LONG / (F16 - Q8_0))
    values = max(0.0, token / F16 - keys)
    return Memory(
        cache_keys=round(keys),
        cache_values=round(values),
        cache_fixed=max(0, round(short[0] - token * SHORT)),
        compute=max(0, round(short[1] - (long[1] - short[1]) / (LONG - SHORT) * SHORT)),
        compute_token=max(0, round((long[1] - short[1]) / (LONG - SHORT))),
    )


def _ask(kit: Kit, path: Path, context: int, keys: str) -> tuple[int, int]:
    """Bytes of the caches and of the compute buffers, as the engine would have them on the CPU alone."""
    words = ["-c", context, "-ub", BATCH, "-ctk", keys, "--device", "none", "--no-repack", "--fit-print", "on"]
    command = [kit.path / MEMBERS / kit.engine_program, "fit-params", "-m", path, *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "MKLLM_"))}
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=True,
    )
    name, _, cache, compute = (done.stdout.splitlines() or [""])[-1].split()
    if name != "Host":
        raise ValueError(name)
    return int(cache) * MIB, int(compute) * MIB


def estimate(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> Memory:
    """By llama.cpp's names of keys, as if every layer attended to the whole context; 0 where they say nothing."""
    keys, values = _cache(header, architecture)
    embedding = next((tensor.shape for tensor in tensors if tensor.name == EMBEDDING), ())
    width, vocabulary = embedding if len(embedding) == 2 else (0, 0)
    floats = BATCH * 4
    return Memory(*map(_sensible, (keys, values, 0, floats * (vocabulary + 8 * width), 2 * BATCH)))


def _cache(header: Gguf, architecture: str) -> tuple[int, int]:
    """Elements that a token adds to the caches of keys and of values: heads times length of a head, over all layers."""
    layers = header.integer(f"{architecture}.block_count") or 0
    heads = _per_layer(header, f"{architecture}.attention.head_count", layers)
    used = _per_layer(header, f"{architecture}.attention.head_count_kv", layers) or heads
    most = max(heads, default=0)
    if most <= 0:
        return 0, 0
    usual = (header.integer(f"{architecture}.embedding_length") or 0) // most
    key, value = (header.integer(f"{architecture}.attention.{name}_length") or usual for name in ("key", "value"))
    return sum(used) * key, sum(used) * value


def _per_layer(header: Gguf, key: str, layers: int) -> list[int]:
    """One number for all layers, or a list of one for each."""
    number = header.integer(key)
    return list(header.integers(key)) if number is None else [number] * min(layers, 1 << 16)


def _sensible(number: int) -> int:
    return number if 0 <= number < MOST else 0
