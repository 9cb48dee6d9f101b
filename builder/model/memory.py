"""How much memory a model takes beside its weights: told by the kit's own engine, else estimated from the header."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from mkllm.builder import process
from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.model.gguf import Gguf, Tensor
from mkllm.runtime.artifact.manifest import Memory

SECONDS = 30
SHORT, LONG = 4096, 65536  # contexts to measure with: far apart, since the engine tells whole MiB
BATCH = 512  # the engine's own; what is said of compute buffers is said for it
MIB = 1 << 20
QUESTIONS = ((SHORT, "f16"), (LONG, "f16"), (SHORT, "q8_0"))  # contexts, and types of the caches
F16 = 2  # bytes per element
EMBEDDING = b"token_embd.weight"
MOST = 1 << 40  # what is larger makes no sense


class Measurement:
    """The kit's engine laying out a model in the background: nothing is allocated or loaded; takes half a second."""

    def __init__(self, foreign: bool, questions: Sequence[subprocess.Popen[str]], estimate: Memory) -> None:
        self._foreign = foreign
        self._questions = questions
        self._estimate = estimate

    def wait(self) -> Memory | None:
        """What the engine says; the estimate for a kit of another system; None where it should run and does not."""
        if self._foreign:
            return self._estimate
        if len(self._questions) < len(QUESTIONS):
            return None
        short, long, small = (_answer(question) for question in self._questions)
        if not short or not long:
            return None
        token = (long[0] - short[0]) / (LONG - SHORT) / F16
        growth = (long[1] - short[1]) / (LONG - SHORT)
        both = self._estimate.cache_keys + self._estimate.cache_values
        keys = token * self._estimate.cache_keys / both if both else token
        return Memory(
            cache_keys=max(0, round(keys)),
            cache_values=max(0, round(token - keys)),
            cache_fixed=max(0, round(short[0] - token * F16 * SHORT)),
            cache_quantized=small is not None,
            compute=max(0, round(short[1] - growth * SHORT)),
            compute_token=max(0, round(growth)),
        )


@contextlib.contextmanager
def measuring(kit: Kit, path: Path, estimate: Memory) -> Iterator[Measurement]:
    """Start asking; leaving the block ends it. Where the engine says something, `estimate` tells keys from values."""
    foreign = not (kit.path / "bindings").is_dir()
    with contextlib.ExitStack() as stack:
        questions = []
        with contextlib.suppress(OSError):
            for context, type in () if foreign else QUESTIONS:
                questions.append(stack.enter_context(_question(kit, path, context, type)))
        yield Measurement(foreign, questions, estimate)


def _question(
    kit: Kit, path: Path, context: int, type: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    words = ["-c", context, "-ub", BATCH, "-ctk", type, "-ctv", type, "--device", "none", "--no-repack"]
    command = [kit.path / MEMBERS / kit.engine_program, "fit-params", "-m", path, *words, "--fit-print", "on"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "MKLLM_"))}
    return process.background([str(word) for word in command], environment)


def _answer(question: subprocess.Popen[str]) -> tuple[int, int] | None:
    """Bytes of the caches and of the compute buffers, as the engine would have them on the CPU alone."""
    try:
        output, _ = question.communicate(timeout=SECONDS)
        name, _, cache, compute = (output.splitlines() or [""])[-1].split()
        return (int(cache) * MIB, int(compute) * MIB) if not question.returncode and name == "Host" else None
    except (ValueError, subprocess.TimeoutExpired):
        return None


def estimate(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> Memory:
    """By llama.cpp's names of keys, as if every layer attended to the whole context; 0 where they say nothing."""
    keys, values = _cache(header, architecture)
    embedding = next((tensor.shape for tensor in tensors if tensor.name == EMBEDDING), ())
    width, vocabulary = embedding if len(embedding) == 2 else (0, 0)
    floats = BATCH * 4
    return Memory(
        cache_keys=_sensible(keys),
        cache_values=_sensible(values),
        cache_fixed=0,
        cache_quantized=False,
        compute=_sensible(floats * (vocabulary + 8 * width)),
        compute_token=2 * BATCH,
    )


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
    if header.integer(f"{architecture}.attention.key_length_mla"):
        value = 0  # latent attention: the values are a part of the keys
    return sum(used) * key, sum(used) * value


def _per_layer(header: Gguf, key: str, layers: int) -> list[int]:
    """One number for all layers, or a list of one for each."""
    number = header.integer(key)
    return list(header.integers(key)) if number is None else [number] * min(layers, 1 << 16)


def _sensible(number: int) -> int:
    return number if 0 <= number < MOST else 0
