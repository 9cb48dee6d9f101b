"""What a model comes to on a device: settings, whether it fits, how fast it can be at most; measures nothing."""

from dataclasses import dataclass

from mkllm.builder.devices import Device
from mkllm.builder.needs import needs
from mkllm.builder.progress import size
from mkllm.runtime.artifact.engine_words import option_name
from mkllm.runtime.artifact.manifest import Defaults, Model
from mkllm.runtime.artifact.manifest import Device as Made

SHORTEST, STEP = 512, 256
CACHED = 32 << 20  # bytes: smaller weights are not read from the memory for each token
# Words of the maker's by which he has settled it himself.
THREADS = ("-t", "--threads")


@dataclass(frozen=True)
class Outlook:
    """`made` goes into the manifest. `needed` and `room` are bytes: what the model takes, and what the device has for
    it; `tokens_per_second` is the most that the peak of its memory's bandwidth allows, None where that says nothing."""

    device: Device
    made: Made
    context: int
    weights: int
    needed: int
    room: int
    token_bytes: int
    tokens_per_second: float | None

    @property
    def fits(self) -> bool:
        """Whether it starts there."""
        return self.needed <= self.room

    def as_object(self) -> dict[str, object]:
        """For JSON."""
        return {
            "device": self.device.name,
            "needed": self.needed,
            "room": self.room,
            "fits": self.fits,
            "bytes_per_token": self.token_bytes,
            "bandwidth": self.device.bandwidth,
            "estimated_tokens_per_second_at_most": self.tokens_per_second,
        }


def outlook(device: Device, model: Model, weights: int, defaults: Defaults, other: int = 0) -> Outlook:
    """Of a model with `weights` bytes, and `other` ones of what is loaded beside it.

    What the maker settled himself stays as he has it.

    Raises nothing: a model that does not fit is one that `fits` is False of.
    """
    wanted = needs(device, model, defaults, other)
    room = device.memory - device.system
    context = wanted.context
    while not defaults.context and context > SHORTEST and weights + wanted.beside(context) > room:
        context -= STEP
    token = model.token_weights
    settled = {option_name(word) for word in defaults.engine_args}
    made = Made(
        name=device.name,
        machine=device.machine,
        cores=device.cores,
        memory=device.memory,
        context=None if defaults.context else context,
        cache_type=wanted.cache_type,
        threads=None if settled & set(THREADS) else device.cores,
        batch=wanted.batch,
    )
    speed = device.bandwidth / token if device.bandwidth and token >= CACHED else None
    return Outlook(device, made, context, weights, weights + wanted.beside(context), room, token, speed)


def sentences(found: Outlook) -> list[str]:
    """What there is to say about it at build, a line each."""
    made = found.made
    words = [f"context {found.context} tokens"]
    words += [f"caches in {made.cache_type}"] if made.cache_type else []
    words += [f"{made.threads} threads to start from"] if made.threads else []
    words += [f"batches of {made.batch}"] if made.batch else []
    lines = [f"for {found.device.sentence}: {', '.join(words)}; {_memory(found)}"]
    if not found.fits:
        lines.append(f"warning: the model does not fit {found.device.sentence}, {_trouble(found)}: {_smaller(found)}")
    return [*lines, _speed(found)]


def _memory(found: Outlook) -> str:
    return (
        f"{size(found.needed)} of memory needed (weights, caches, buffers), about {size(found.room)} there beside a "
        "system without a desktop"
    )


def _trouble(found: Outlook) -> str:
    if found.needed > found.device.memory:
        return "where it will not start without --fit off"
    return "where parts of it would be read from the disk again and again"


def _smaller(found: Outlook) -> str:
    rest = found.room - (found.needed - found.weights)
    return f"weights of at most {size(rest)} would, these are {size(found.weights)}" if rest > 0 else "no model does"


def _speed(found: Outlook) -> str:
    if not found.device.bandwidth:
        return f"no estimate of its speed: the memory bandwidth of {found.device.sentence} is not known"
    if 0 < found.token_bytes < CACHED:
        return "no estimate of its speed: so small a model stays in the processor's caches"
    if found.tokens_per_second is None:
        return "no estimate of its speed: the model does not say how much of its weights a token needs"
    peak = f"{found.device.bandwidth / 1e9:.1f} GB/s by its data sheet"
    return (
        f"estimate: at most {found.tokens_per_second:.3g} tokens/s generated, as many as the weights of one token "
        f"({size(found.token_bytes)}) pass the memory at its peak ({peak}); real ones are fewer, and prompts are not "
        "estimated"
    )
