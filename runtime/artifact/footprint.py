"""What the engine takes beside the weights, by what the manifest says of the model; pure. All sizes are in bytes."""

from mkllm.runtime.artifact.manifest import Memory

F16, SMALL = "f16", "q8_0"
# Bytes per element of llama.cpp's cache types: blocks of 32 elements with their scales.
TYPE_BYTES = {
    "f32": 4.0,
    F16: 2.0,
    "bf16": 2.0,
    SMALL: 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
BATCH = 512  # the engine's own; the manifest's figures are for it
SLOTS = 4  # requests at the same time, the engine's own
PROGRAMS = 96 << 20  # this program and the engine without its buffers


def per_token(memory: Memory, types: tuple[str, str]) -> float:
    """What a token adds to caches of keys and of values of these types."""
    return memory.cache_keys * TYPE_BYTES[types[0]] + memory.cache_values * TYPE_BYTES[types[1]]


def caches(
    memory: Memory,
    tokens: int,
    types: tuple[str, str],
    batch: int = BATCH,
    slots: int = SLOTS,
    *,
    unwindowed: bool = False,
) -> int:
    """All caches and states for a context of `tokens`; `unwindowed`: sliding windows keep the whole context."""
    in_f16 = (TYPE_BYTES[types[0]] + TYPE_BYTES[types[1]]) / 2 / TYPE_BYTES[F16]
    windows = tokens * memory.cache_cell
    if not unwindowed:
        windows = min(windows, slots * memory.cache_window + batch * memory.cache_cell)
    return slots * memory.cache_state + int(windows * in_f16 + tokens * per_token(memory, types))


def buffers(memory: Memory, tokens: int, batch: int = BATCH, *, fused: bool = True) -> int:
    """Buffers for batches of that size; `fused`: with flash attention."""
    token = memory.compute_token if fused else memory.compute_token_unfused
    return int((memory.compute + token * tokens) * batch / BATCH)
