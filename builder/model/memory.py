"""How much memory a model takes beside its weights: told by the kit's own engine, else estimated from the header."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder import process
from mkllm.builder.kit.kit import Kit, engine_environment
from mkllm.builder.model.gguf import Gguf, Tensor
from mkllm.runtime.artifact.manifest import Memory

SECONDS = 30
SHORT, LONG = 8192, 65536  # contexts to measure with: longer than windows, and far apart: the engine tells whole MiB
BATCH, NARROW = 512, 256  # the engine's own, and one that shows what depends on it: windows are padded to 256
MIB = 1 << 20
F16, Q8_0 = 2, 34 / 32  # bytes per element
EMBEDDING = b"token_embd.weight"
MOST = 1 << 40  # what is larger makes no sense


@dataclass(frozen=True)
class _Question:
    context: int
    type: str = "f16"
    batch: int = BATCH
    flash: str = "auto"

    @property
    def words(self) -> list[str]:
        types = ["-ctk", self.type, "-ctv", self.type, "-fa", self.flash]
        return ["-c", str(self.context), "-ub", str(self.batch), *types, "--device", "none", "--no-repack"]


QUESTIONS = (
    _Question(SHORT),
    _Question(LONG),
    _Question(SHORT, batch=NARROW),
    _Question(LONG, flash="off"),
    _Question(SHORT, type="q8_0"),
)


class Unmeasured(Exception):
    """The engine did not run, did not answer in time, or refused."""


class Measurement:
    """The kit's engine laying out a model in the background: nothing is allocated or loaded; takes half a second."""

    def __init__(self, foreign: bool, children: Sequence[subprocess.Popen[str]], estimate: Memory) -> None:
        self._foreign = foreign
        self._children = children
        self._estimate = estimate

    def wait(self) -> Memory | None:
        """What the engine says; the estimate for a kit of another system; None where it should say and does not."""
        if self._foreign:
            return self._estimate
        try:
            return self._told() if len(self._children) == len(QUESTIONS) else None
        except Unmeasured:
            return None

    def _told(self) -> Memory:
        short, long, narrow, unfused, small = (_answer(child) for child in self._children)
        if not short or not long or not narrow:
            raise Unmeasured
        token = max(0.0, (long.caches - short.caches) / (LONG - SHORT))
        growth = max(0.0, (long.buffers - short.buffers) / (LONG - SHORT))
        fixed = max(0.0, short.caches - token * SHORT)
        compute = max(0.0, short.buffers - growth * SHORT)
        cell = (short.caches - narrow.caches) / (BATCH - NARROW)
        if cell * BATCH < 2 * MIB:  # no windows: what else is fixed, but for rounding, are states
            cell = windows = 0.0
        elif small:
            windows = min(fixed, max(0.0, (short.caches - small.caches) / (1 - Q8_0 / F16) - token * SHORT))
        else:
            windows = fixed
        both = self._estimate.cache_keys + self._estimate.cache_values
        keys = token / F16 * (self._estimate.cache_keys / both if both else 1)
        return Memory(
            cache_keys=round(keys),
            cache_values=round(token / F16 - keys),
            cache_cell=round(cell),
            cache_window=max(0, round(windows - cell * BATCH)),
            cache_state=round(fixed - windows),
            cache_quantized=small is not None,
            compute=round(compute),
            compute_token=round(growth),
            compute_token_unfused=round(max(growth, (unfused.buffers - compute) / LONG)) if unfused else round(growth),
        )


@contextlib.contextmanager
def measuring(kit: Kit, path: Path, estimate: Memory) -> Iterator[Measurement]:
    """Start asking; leaving the block ends it. Where the engine says something, `estimate` tells keys from values."""
    foreign = not kit.runs_here
    engine = [str(kit.engine), "fit-params", "-m", str(path), "--fit-print", "on"]
    environment = engine_environment(kit)
    with contextlib.ExitStack() as stack:
        children = []
        with contextlib.suppress(OSError):
            for question in () if foreign else QUESTIONS:
                children.append(stack.enter_context(process.background([*engine, *question.words], environment)))
        yield Measurement(foreign, children, estimate)


@dataclass(frozen=True)
class _Answer:
    caches: int
    buffers: int


def _answer(child: subprocess.Popen[str]) -> _Answer | None:
    """Bytes, as the engine would have them on the CPU alone; None when it refuses. Raises Unmeasured."""
    try:
        output, _ = child.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Unmeasured from None
    if child.returncode:
        return None
    try:
        name, _, caches, buffers = (output.splitlines() or [""])[-1].split()
        if name == "Host":
            return _Answer(int(caches) * MIB, int(buffers) * MIB)
    except ValueError:
        pass
    raise Unmeasured


def estimate(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> Memory:
    """By llama.cpp's names of keys, as if every layer attended to the whole context; 0 where they say nothing."""
    keys, values = _cache(header, architecture)
    heads = [_sensible(number) for number in _per_layer(header, f"{architecture}.attention.head_count", 1)]
    embedding = next((tensor.shape for tensor in tensors if tensor.name == EMBEDDING), ())
    width, vocabulary = embedding if len(embedding) == 2 else (0, 0)
    floats = BATCH * 4
    return Memory(
        cache_keys=_sensible(keys),
        cache_values=_sensible(values),
        cache_cell=0,
        cache_window=0,
        cache_state=0,
        cache_quantized=False,
        compute=_sensible(floats * (vocabulary + 8 * width)),
        compute_token=2 * BATCH,
        compute_token_unfused=floats * max(heads, default=0),
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
