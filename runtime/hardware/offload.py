"""Which GPUs take how many of a model's layers; pure, looks at nothing.

What does not fit stays on the CPU. Of several GPUs the best alone is taken if it holds all, else all discrete ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from mkllm.runtime.artifact.manifest import Model
from mkllm.runtime.hardware.devices import CAPABILITY, DISCRETE, KINDS, SOFTWARE, Device
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts

# What drivers take for themselves, and a screen while the engine runs.
MARGIN = 512 << 20
NO_DEVICE = "none"
EVERY_LAYER = 999


@dataclass(frozen=True)
class Burden:
    """What there is to put on GPUs, in bytes: all `weights`, of which a layer has at most `layer`; `caches` of all
    layers; `buffers` for each GPU; `projector` on the first one. `layers` 0: nobody knows how many, so it is all or
    nothing.

    `asked_layers` and `asked_devices` (names, or `none`): what the user tells the engine; None: nothing.
    """

    weights: int = 0
    layers: int = 0
    layer: int = 0
    caches: int = 0
    buffers: int = 0
    asked_layers: int | None = None
    asked_devices: tuple[str, ...] | None = None
    projector: int = 0


@dataclass(frozen=True)
class Offload:
    """`layers` of `total` (0: unknown, all of them) on the devices, which share them."""

    devices: tuple[Device, ...]
    layers: int
    total: int

    @property
    def whole(self) -> bool:
        """Nothing is left for the CPU but to read in the tokens."""
        return self.layers >= self.total

    @property
    def words(self) -> tuple[str, ...]:
        """For the engine: it counts the output as one more layer, and the first to be put on a GPU."""
        layers = EVERY_LAYER if self.whole else self.layers + 1
        return "--device", ",".join(device.name for device in self.devices), "--n-gpu-layers", str(layers)


def burden_of(
    model: Model,
    weights: int,
    fit: Fit | None,
    asked: tuple[int | None, tuple[str, ...] | None],
    projector: int = 0,
) -> Burden:
    """The burden of a model that was fitted (None: it could not be); `asked`: layers and devices of the user's."""
    caches, buffers = (fit.caches, fit.buffers) if fit else (0, 0)
    return Burden(weights, model.layers, model.layer_bytes, caches, buffers, *asked, projector)


def with_gpu_memory(facts: Facts) -> Facts | None:
    """As if the memory of the discrete GPUs of one backend were the machine's as well; None where there are none."""
    found = ([device for device in look.devices if _counts(device)] for look in facts.gpus)
    devices = next(filter(None, found), None)
    if not devices:
        return None
    return replace(
        facts,
        memory_total=min(facts.memory_total, facts.memory_limit or facts.memory_total)
        + sum(device.memory_total for device in devices),
        memory_available=facts.memory_available + sum(_room(device, facts) for device in devices),
        memory_limit=None,
    )


def _counts(device: Device) -> bool:
    return device.kind == DISCRETE and not device.too_old


def offload(burden: Burden, devices: Sequence[Device], facts: Facts, by_name: bool = False) -> Offload | str:
    """The best use of a backend's devices, or in words why there is none. `by_name`: a software renderer will do."""
    usable = _usable(burden, devices, by_name)
    if isinstance(usable, str):
        return usable
    if burden.asked_layers is not None:
        return Offload(usable[:1], min(burden.asked_layers - 1, burden.layers), burden.layers)
    best = max((_filled(burden, group, facts) for group in _groups(usable)), key=lambda found: found.layers)
    if best.layers > 0 or best.whole:
        return best
    return f"{gibibytes(_room(usable[0], facts))} free on {usable[0].title} hold no layer of the model"


def _usable(burden: Burden, devices: Sequence[Device], by_name: bool) -> tuple[Device, ...] | str:
    """Best first: discrete ones before integrated ones, and of each the one with the most free memory."""
    if burden.asked_devices == (NO_DEVICE,) or burden.asked_layers == 0:
        return "no layers on GPUs were asked for"
    if not devices:
        return "no GPU with a driver is there"
    asked = [device for device in devices if burden.asked_devices is None or device.name in burden.asked_devices]
    if not asked:
        return f"{','.join(burden.asked_devices or ())!r} was asked for, it has {', '.join(d.name for d in devices)}"
    able = [device for device in asked if not device.too_old]
    if not able:
        return f"{asked[0].title} has compute capability {asked[0].capability}, {CAPABILITY} is needed"
    real = [device for device in able if device.kind != SOFTWARE or by_name or burden.asked_devices]
    if not real:
        return f"{able[0].title} is a software renderer"
    return tuple(sorted(real, key=lambda device: (KINDS.index(device.kind), -device.memory_free)))


def _groups(devices: tuple[Device, ...]) -> Sequence[tuple[Device, ...]]:
    """The best alone, then all discrete ones: an integrated one would only slow them down."""
    together = tuple(takewhile(lambda device: device.kind == DISCRETE, devices))
    return [devices[:1], together] if len(together) > 1 else [devices[:1]]


def _filled(burden: Burden, devices: tuple[Device, ...], facts: Facts) -> Offload:
    """As many layers as fit; -1 where nothing is known of layers, and not all fits."""
    room = sum(_room(device, facts) - burden.buffers for device in devices) - burden.projector
    if burden.weights + burden.caches <= room:
        return Offload(devices, burden.layers, burden.layers)
    if not burden.layers:
        return Offload(devices, -1, 0)
    beside = max(0, burden.weights - burden.layers * burden.layer)  # the output, which comes first, and what stays here
    each = max(1, burden.layer + burden.caches // burden.layers)
    return Offload(devices, max(0, min(burden.layers - 1, (room - beside) // each)), burden.layers)


def _room(device: Device, facts: Facts) -> int:
    """What a model may take of it; one that has no memory of its own shares this machine's."""
    shared = device.kind != DISCRETE and facts.memory_total > 0
    free = min(device.memory_free, facts.memory_available) if shared else device.memory_free
    return max(0, free - MARGIN)


def gibibytes(count: int) -> str:
    """`12 GiB`, `1.5 GiB`: GPUs are sold by powers of 1024."""
    value = count / (1 << 30)
    return f"{value:.0f} GiB" if value >= 9.95 or value == round(value) else f"{value:.1f} GiB"
