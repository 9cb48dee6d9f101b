"""What a model takes in memory beside its weights, as the maker settled it or a device has it; measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mkllm.builder.devices import Device
from mkllm.runtime.artifact import footprint
from mkllm.runtime.artifact.engine_words import option_name
from mkllm.runtime.artifact.footprint import BATCH, F16, PROGRAMS, TYPE_BYTES
from mkllm.runtime.artifact.manifest import Defaults, Memory, Model

CONTEXT = 4096  # tokens, where nobody says
# Words of the maker's by which he has settled something himself.
CACHES = ("-ctk", "--cache-type-k", "-ctv", "--cache-type-v")
KEYS, VALUES = CACHES[:2], CACHES[2:]
DIGITS = 9  # of a batch; the engine refuses longer ones
BATCHES = ("-ub", "--ubatch-size", "-b", "--batch-size")


@dataclass(frozen=True)
class Needs:
    """`context` is in tokens; `cache_type` and `batch` are set for the device, None: nothing is; `types` are those of
    the caches of keys and of values, and `taken` is the batch, that come of all; `other` are bytes of other files that
    are loaded."""

    memory: Memory
    context: int
    cache_type: str | None
    batch: int | None
    types: tuple[str, str]
    taken: int
    other: int = 0

    def beside(self, tokens: int) -> int:
        """Bytes beside the weights with so many tokens of context."""
        caches = footprint.caches(self.memory, tokens, self.types, self.taken)
        return PROGRAMS + self.other + caches + footprint.buffers(self.memory, tokens, self.taken)


def needs(device: Device | None, model: Model, defaults: Defaults, other: int = 0) -> Needs:
    """Of a model on that device, or on any. What the maker settled himself stays as he has it."""
    words = defaults.engine_args
    names = {option_name(word) for word in words}
    quantized = model.memory.cache_quantized and not names & set(CACHES)
    cache_type = device.cache_type if device and quantized else None
    batch = device.batch if device and not names & set(BATCHES) else None
    return Needs(
        memory=model.memory,
        context=defaults.context or min(device.context if device else CONTEXT, model.context),
        cache_type=cache_type,
        batch=batch,
        types=_types(words, cache_type),
        taken=batch or _number(words, BATCHES[:2]) or BATCH,
        other=other,
    )


def _types(words: Sequence[str], cache_type: str | None) -> tuple[str, str]:
    """Of the caches of keys and of values, as the maker's words or the device have them."""
    found = [_value(words, names) or cache_type or F16 for names in (KEYS, VALUES)]
    keys, values = (kind if kind in TYPE_BYTES else F16 for kind in found)
    return keys, values


def _number(words: Sequence[str], names: Sequence[str]) -> int | None:
    text = _value(words, names) or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None


def _value(words: Sequence[str], names: Sequence[str]) -> str | None:
    """What follows the last of these options."""
    return next((value for name, value in reversed([*pairwise(words)]) if option_name(name) in names), None)
