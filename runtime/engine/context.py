"""How long a context to ask for: the one asked for, the maker's, or the model's own as far as memory reaches."""

from dataclasses import dataclass
from typing import IO

from mkllm.runtime.engine.header import HeaderError, Value, read_header

SHORTEST = 2048
STEP = 256  # the engine's own, too
SHARE = 0.25
# The engine fills the cache with zeros before it is ready: a larger one would cost memory and seconds at every start.
MOST_BYTES = 1 << 30
# Bytes per element of llama.cpp's cache types: blocks of 32 elements with their scales.
TYPE_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


@dataclass(frozen=True)
class Context:
    """`tokens` that every request can have; `note` says that it is less than it could be, and what to do, else None."""

    tokens: int
    note: str | None = None


def choose_context(
    asked: int | None, made: int | None, trained: int, token_bytes: int, memory: int, longest: int | None = None
) -> Context:
    """`asked` on the command line (0: all of `trained`), else `made` by the maker, else what fits.

    `token_bytes` is what one token takes in the cache, `memory` what is free beside the weights, in bytes; 0: unknown.
    The engine cuts what is longer than `longest` (None: than `trained`), and rounds up what is shorter.
    """
    wanted = made if asked is None else asked or trained
    if wanted is not None:
        tokens = min(_whole_steps(wanted), longest or trained)
        return Context(tokens, _cut(wanted, tokens) if asked and tokens < wanted else None)
    tokens = min(trained, max(_fitting(token_bytes, memory), SHORTEST)) if token_bytes and memory else trained
    if tokens == trained:
        return Context(trained)
    needed = token_bytes * trained / 2**30
    return Context(
        tokens,
        f"context: {tokens} of the model's {trained} tokens, since all would take {needed:.1f} GiB of memory; "
        f"--ctx-size {trained} asks for all",
    )


def _cut(wanted: int, tokens: int) -> str:
    return (
        f"context: {tokens} tokens instead of {wanted}, since the model was trained with no more; "
        "-- --rope-scaling yarn --rope-scale N makes it N times as long"
    )


def _whole_steps(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _fitting(token_bytes: int, memory: int) -> int:
    return int(min(memory * SHARE, MOST_BYTES) / token_bytes) // STEP * STEP


def token_bytes(file: IO[bytes], architecture: str, type_k: str = "f16", type_v: str = "f16") -> int:
    """What one token takes in the engine's cache, over all layers, by the GGUF's header; 0 when it does not say."""
    names = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
    lengths = ("attention.key_length", "attention.value_length")
    wanted = [f"{architecture}.{name}" for name in (*names, *lengths)]
    try:
        layers, width, heads, key_heads, key, value = map(read_header(file, wanted).get, wanted)
    except HeaderError:
        return 0
    most = max(_per_layer(heads), default=0)
    if not isinstance(layers, int) or not isinstance(width, int) or not most:
        return 0
    per_head = _integer(key, width // most) * TYPE_BYTES[type_k] + _integer(value, width // most) * TYPE_BYTES[type_v]
    used = _per_layer(heads if key_heads is None else key_heads)
    return int(sum(used) * (layers if len(used) == 1 else 1) * per_head)


def _per_layer(heads: Value | None) -> list[int]:
    """One number for all layers, or one for each."""
    return heads if isinstance(heads, list) else [heads] if isinstance(heads, int) else []


def _integer(value: Value | None, default: int) -> int:
    return value if isinstance(value, int) else default
