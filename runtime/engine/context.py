"""How long a context to ask for: the one asked for, the maker's, or the model's own as far as memory reaches."""

from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Memory

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


def token_bytes(memory: Memory, type_k: str = "f16", type_v: str = "f16") -> int:
    """What one token takes in the engine's cache, over all layers; 0 when the model does not say."""
    return int(memory.cache_keys * TYPE_BYTES[type_k] + memory.cache_values * TYPE_BYTES[type_v])
