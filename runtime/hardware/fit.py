"""What a model takes of this machine's memory: its context, the types of its caches, its batch; pure, looks at nothing.

Nothing is reduced without a word: every reduction is one of the notes of a `Fit`.
"""

from dataclasses import dataclass
from functools import partial

from mkllm.runtime.artifact.manifest import Memory, Model
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.progress import size

SHORTEST = 2048
STEP = 256  # the engine's own, too
SHARE = 0.25
# The engine fills the cache with zeros before it is ready: a larger one would cost memory and seconds at every start.
MOST_BYTES = 1 << 30
BATCH = 512  # the engine's own; the manifest's figures are for it
BATCHES = (BATCH, 256, 128, 64)
PROMPTS = 8 << 30  # the engine's own limit for prompts that it remembers
PROGRAMS = 96 << 20  # this program and the engine without its buffers
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
# Bits per weight of whole models, about; the best first.
QUANTIZATIONS = {"Q8_0": 8.6, "Q6_K": 6.7, "Q5_K_M": 5.8, "Q4_K_M": 5.0, "Q3_K_M": 4.1, "Q2_K": 3.3}


@dataclass(frozen=True)
class Asked:
    """What was asked for; None: not asked.

    `context` on the command line (0: all that the model was trained with), `made`: that of the maker; the engine cuts
    what is longer than `longest` (None: than what the model was trained with). `checked` False: take it all, whatever
    memory there is.
    """

    context: int | None = None
    made: int | None = None
    longest: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    batch: int | None = None
    checked: bool = True

    @property
    def types(self) -> tuple[str, str]:
        """The types of the caches of keys and of values."""
        return self.type_k or F16, self.type_v or F16


@dataclass(frozen=True)
class Fit:
    """How a model is started: `context` tokens that every request can have, cache types, and the physical batch.

    `caches`, `buffers`, and `prompts` (the most that the engine may keep of earlier prompts) are in bytes. `notes` say
    what is less than was asked for, or than it could be, and what to do.
    """

    context: int
    type_k: str
    type_v: str
    batch: int
    caches: int
    buffers: int
    prompts: int
    notes: tuple[str, ...] = ()


def fit(asked: Asked, model: Model, weights: int, facts: Facts) -> Fit:
    """Fit a model with `weights` bytes into the memory that the machine of `facts` has free.

    Raises TooLittleMemory when the machine has not enough for it even if all of it were free.
    """
    known = bool(facts.memory_available) and model.memory != Memory(0, 0, 0, 0, 0) and asked.checked
    if known:
        _expect_memory(model, weights, facts)
    room = max(0, facts.memory_available - weights - PROGRAMS) if known else 1 << 62
    batch = asked.batch or _batch(model.memory, room)
    wanted = asked.made if asked.context is None else asked.context or model.context
    fitted = _automatic(asked, model, room, known) if wanted is None else _wanted(wanted, batch, asked, model, room)
    context, types, notes = fitted
    if known and facts.memory_available < weights:
        notes = (*notes, _slow(weights, facts))
    if batch < BATCH and not asked.batch:
        notes = (
            *notes,
            f"batch: {batch} tokens instead of {BATCH} to save memory; --ubatch-size {BATCH} asks for more",
        )
    taken = caches(model.memory, context, *types), buffers(model.memory, context, batch)
    prompts = max(0, min(PROMPTS, (room - sum(taken)) // 2))
    return Fit(context, *types, batch, *taken, prompts, notes)


def caches(memory: Memory, tokens: int, type_k: str = F16, type_v: str = F16) -> int:
    """Bytes of the engine's caches for a context of `tokens`."""
    return memory.cache_fixed + int(tokens * _token_bytes(memory, type_k, type_v))


def buffers(memory: Memory, tokens: int, batch: int) -> int:
    """Bytes of the engine's compute buffers for a context of `tokens`."""
    return int((memory.compute + memory.compute_token * tokens) * batch / BATCH)


def _token_bytes(memory: Memory, type_k: str, type_v: str) -> float:
    return memory.cache_keys * TYPE_BYTES[type_k] + memory.cache_values * TYPE_BYTES[type_v]


def _expect_memory(model: Model, weights: int, facts: Facts) -> None:
    shortest = min(SHORTEST, model.context)
    beside = PROGRAMS + caches(model.memory, shortest, SMALL, SMALL) + buffers(model.memory, shortest, BATCHES[-1])
    has = min(facts.memory_total, facts.memory_limit or facts.memory_total)
    if has and weights + beside > has:
        whose = "this container may have" if facts.memory_limit and facts.memory_limit == has else "this machine has"
        raise TooLittleMemory(
            f"the model needs {size(weights + beside)} of memory, {whose} {size(has)}: "
            f"{_smaller(model, weights, has - beside)}; --fit off starts it all the same, slowed down by the disk"
        )


def _smaller(model: Model, weights: int, room: int) -> str:
    bits = 8 * max(0, room) / max(1, model.parameters)
    now = 8 * weights / max(1, model.parameters)
    for name, needed in QUANTIZATIONS.items():
        if needed <= bits and needed < now:
            return f"its {name} would fit"
    return f"a model of at most {size(room)} would fit" if room > 0 else "no model fits"


def _batch(memory: Memory, room: int) -> int:
    """The largest whose buffers take no more than a quarter of the room."""
    return next((batch for batch in BATCHES if buffers(memory, SHORTEST, batch) <= room * SHARE), BATCHES[-1])


Fitted = tuple[int, tuple[str, str], tuple[str, ...]]


def _automatic(asked: Asked, model: Model, room: int, known: bool) -> Fitted:
    """Nobody asked: the model's own context, as far as its cache takes no more than a share of what is free."""
    trained, types = model.context, asked.types
    per_token = _token_bytes(model.memory, *types)
    if not known or not per_token:
        return trained, types, ()
    most = min(room * SHARE, MOST_BYTES) - model.memory.cache_fixed
    tokens = min(trained, max(int(most / per_token) // STEP * STEP, SHORTEST))
    if tokens == trained:
        return trained, types, ()
    needed = size(caches(model.memory, trained, *types))
    return (
        tokens,
        types,
        (
            f"context: {tokens} of the model's {trained} tokens, since all would take {needed} of memory; "
            f"--ctx-size {trained} asks for all",
        ),
    )


def _wanted(wanted: int, batch: int, asked: Asked, model: Model, room: int) -> Fitted:
    """As asked, as far as the model and the memory reach: first with smaller caches, then with fewer tokens."""
    tokens = min(-(-wanted // STEP) * STEP, asked.longest or model.context)
    notes: tuple[str, ...] = ()
    if asked.context and tokens < wanted:
        notes = (
            f"context: {tokens} tokens instead of {wanted}, since the model was trained with no more; "
            "-- --rope-scaling yarn --rope-scale N makes it N times as long",
        )
    memory, room = model.memory, room - buffers(model.memory, tokens, batch)
    taken = partial(caches, memory, tokens)
    if taken(*asked.types) <= room or tokens <= SHORTEST:
        return tokens, asked.types, notes
    types = asked.types if asked.type_k or asked.type_v else (SMALL, SMALL)
    free = f"the {size(taken(*asked.types))} of {'/'.join(dict.fromkeys(asked.types))} are not free"
    if taken(*types) <= room:
        return tokens, types, (*notes, f"caches: {SMALL}, since {free}; -ctk {F16} -ctv {F16} asks for more")
    left = room - caches(memory, tokens, *types)  # below zero
    per_token = _token_bytes(memory, *types) + memory.compute_token * batch / BATCH
    fewer = max(int(tokens + left / max(1.0, per_token)) // STEP * STEP, SHORTEST)
    change = f" and caches in {SMALL}" if types != asked.types else ""
    note = f"context: {fewer} tokens instead of {tokens}{change}, since {free}; --fit off takes them all the same"
    return fewer, types, (*notes, note)


def _slow(weights: int, facts: Facts) -> str:
    return (
        f"memory: only {size(facts.memory_available)} are free for {size(weights)} of weights, so parts of them are "
        "read from the disk again and again: end other programs"
    )
