"""What a model takes of this machine's memory: its context, the types of its caches, its batch; pure, looks at nothing.

Nothing is reduced without a word: every reduction is one of the notes of a `Fit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact import footprint
from mkllm.runtime.artifact.footprint import BATCH, F16, PROGRAMS, SMALL
from mkllm.runtime.artifact.manifest import Model
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.probe import Facts

SHORTEST = 2048
STEP = 256  # the engine's own, too
SHARE = 0.25
# A longer one is for whoever asks for it: it would take this much from what else runs here, once it is full.
MOST_BYTES = 1 << 30
BATCHES = (BATCH, 256, 128, 64)
PROMPTS = 8 << 30  # the engine's own limit for prompts that it remembers
UNLIMITED = 1 << 62
# Bits per weight of whole models, about; the best first.
QUANTIZATIONS = {"Q8_0": 8.6, "Q6_K": 6.7, "Q5_K_M": 5.8, "Q4_K_M": 5.0, "Q3_K_M": 4.1, "Q2_K": 3.3}


@dataclass(frozen=True)
class Asked:
    """What was asked for; None: not asked.

    `context` on the command line (0: all that the model was trained with), `made`: that of the maker; the engine cuts
    what is longer than `longest` (None: than what the model was trained with). `slots` requests are served at the same
    time. `beside`: bytes of other files that are loaded. `whole`: batches may not be made smaller. `fused`: with flash
    attention, without which caches cannot be in q8_0. `unwindowed`: sliding windows keep the whole context. `checked`
    False: what was asked for is taken, whatever memory there is.
    """

    context: int | None = None
    made: int | None = None
    longest: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    batch: int | None = None
    slots: int = 1
    beside: int = 0
    whole: bool = False
    fused: bool = True
    unwindowed: bool = False
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
    known = facts.memory_total > 0
    needed = weights + asked.beside + PROGRAMS
    room = max(0, facts.memory_available - needed) if known else UNLIMITED
    sizes = _Sizes(asked, model, room)
    found = sizes.reduced() if asked.checked and known else sizes.as_asked()
    taken = needed + found.caches + found.buffers
    if asked.checked and known:
        _expect_memory(taken, weights, model, facts)
        if taken > facts.memory_available:
            found = replace(found, notes=(*found.notes, _slow(taken, facts)))
    return replace(found, prompts=max(0, min(PROMPTS, (room - found.caches - found.buffers) // 2)))


class _Sizes:
    """The sizes for one model in `room` bytes beside its weights."""

    def __init__(self, asked: Asked, model: Model, room: int) -> None:
        self._asked = asked
        self._memory = model.memory
        self._trained = min(model.context, asked.longest or model.context)
        self._longest = asked.longest or model.context
        self._room = room
        free = asked.fused and not asked.type_k and not asked.type_v
        self._smallest = (SMALL, SMALL) if free and model.memory.cache_quantized else asked.types

    def as_asked(self) -> Fit:
        """Nothing reduced but a context that nobody asked for."""
        tokens, notes = self._tokens()
        return self._fit(tokens, self._asked.types, self._asked.batch or BATCH, notes)

    def reduced(self) -> Fit:
        """A batch whose buffers are small beside the room; then smaller caches, then fewer tokens, until it fits, and
        if it never does a smaller batch still."""
        tokens, notes = self._tokens()
        for batch in self._batches(min(tokens, SHORTEST)):
            found = self._with(batch, tokens, notes)
            if self._fits(found):
                break
        return found

    def _with(self, batch: int, tokens: int, notes: tuple[str, ...]) -> Fit:
        """What there is room for with that batch; with the fewest tokens if there is not."""
        if batch < BATCH and not self._asked.batch:
            notes = (*notes, f"batch: {batch} tokens instead of {BATCH} to save memory; -ub {BATCH} asks for more")
        whole = self._fit(tokens, self._asked.types, batch, notes)
        if self._fits(whole):
            return whole
        free = f"the {size(whole.caches)} of {'/'.join(dict.fromkeys(self._asked.types))} are not free"
        smaller = f"caches: {SMALL}, since {free}; --fit off keeps {F16}"
        small = self._fit(tokens, self._smallest, batch, (*notes, smaller))
        if self._fits(small):
            return small
        per_token = self._per_token(self._smallest) + self._compute_token * batch / BATCH
        over = small.caches + small.buffers - self._room
        fewer = max(min(tokens, SHORTEST), int(tokens - over / max(1.0, per_token)) // STEP * STEP)
        changes = [f"{fewer} tokens instead of {tokens}"] if fewer < tokens else []
        changes += [f"caches in {SMALL}"] if self._smallest != self._asked.types else []
        if changes:
            notes = (*notes, f"context: {' and '.join(changes)}, since {free}; --fit off takes them all the same")
        return self._fit(fewer, self._smallest, batch, notes)

    def _tokens(self) -> tuple[int, tuple[str, ...]]:
        """The context that is wanted, and what there is to say about it."""
        asked, trained = self._asked, self._trained
        wanted = asked.made if asked.context is None else asked.context or trained
        if wanted is None:
            return self._automatic()
        tokens = min(-(-wanted // STEP) * STEP, self._longest)
        if tokens >= wanted:
            return tokens, ()
        return tokens, (
            f"context: {tokens} tokens instead of {wanted}, since the model was trained with no more; "
            "-- --rope-scaling yarn --rope-scale N makes it N times as long",
        )

    def _automatic(self) -> tuple[int, tuple[str, ...]]:
        """The model's own context, as far as its caches take no more than a share of what is free."""
        types, trained = self._asked.types, self._trained
        fixed = self._fit(0, types, BATCH).caches
        most = min((self._room - fixed) * SHARE, MOST_BYTES)
        per_token = self._per_token(types)
        tokens = min(trained, max(int(most / per_token) // STEP * STEP, SHORTEST)) if per_token else trained
        if tokens == trained:
            return trained, ()
        needed = size(self._fit(trained, types, BATCH).caches)
        return tokens, (
            f"context: {tokens} of the model's {trained} tokens, since all would take {needed} of memory; "
            f"--ctx-size {trained} asks for all",
        )

    def _batches(self, tokens: int) -> Sequence[int]:
        """From the largest whose buffers, for `tokens` of context, take no more than a share of the room."""
        if self._asked.batch or self._asked.whole:
            return (self._asked.batch or BATCH,)
        small = [b for b in BATCHES if self._fit(tokens, self._asked.types, b).buffers <= self._room * SHARE]
        return small or BATCHES[-1:]

    def _fits(self, found: Fit) -> bool:
        return found.caches + found.buffers <= self._room

    def _fit(self, tokens: int, types: tuple[str, str], batch: int, notes: tuple[str, ...] = ()) -> Fit:
        asked = self._asked
        caches = footprint.caches(self._memory, tokens, types, batch, asked.slots, unwindowed=asked.unwindowed)
        buffers = footprint.buffers(self._memory, tokens, batch, fused=asked.fused)
        return Fit(tokens, *types, batch, caches, buffers, 0, notes)

    @property
    def _compute_token(self) -> int:
        return self._memory.compute_token if self._asked.fused else self._memory.compute_token_unfused

    def _per_token(self, types: tuple[str, str]) -> float:
        return footprint.per_token(self._memory, types)


def _expect_memory(taken: int, weights: int, model: Model, facts: Facts) -> None:
    has = min(facts.memory_total, facts.memory_limit or facts.memory_total)
    if taken > has:
        whose = "this container may have" if facts.memory_limit and facts.memory_limit == has else "this machine has"
        raise TooLittleMemory(
            f"the model needs {size(taken)} of memory, {whose} {size(has)}: "
            f"{_smaller(model, weights, has - taken + weights)}; --fit off starts it all the same, slowly"
        )


def _smaller(model: Model, weights: int, room: int) -> str:
    bits = 8 * max(0, room) / max(1, model.parameters)
    now = 8 * weights / max(1, model.parameters)
    for name, needed in QUANTIZATIONS.items():
        if needed <= bits and needed < now:
            return f"its {name} would fit"
    return f"a model of at most {size(room)} would fit" if room > 0 else "no model fits"


def _slow(taken: int, facts: Facts) -> str:
    return (
        f"memory: {size(taken)} are needed and only {size(facts.memory_available)} are free, so parts of the model are "
        "read from the disk again and again: end other programs"
    )
