"""GPUs: facts, as `runtime/engine/look.py` finds them out; not imported where a file has no backend for any."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DISCRETE, INTEGRATED, SOFTWARE = "discrete", "integrated", "software"
KINDS = (DISCRETE, INTEGRATED, SOFTWARE)


@dataclass(frozen=True)
class GpuBackend:
    """A backend that computes on GPUs. It knows no software renderers unless `all_devices` is in its environment.

    `more_seconds`: so much longer than others it may take to list its devices.
    """

    name: str
    all_devices: Mapping[str, str] = field(default_factory=dict)
    more_seconds: float = 0.0


GPU_BACKENDS = (
    GpuBackend("cuda"),
    GpuBackend("metal", more_seconds=25.0),  # the first look on a machine compiles its kernels
    GpuBackend("vulkan", {"GGML_VK_VISIBLE_DEVICES": "0"}),
)
# Turing, the oldest of NVIDIA's GPUs that the kit's CUDA backend is compiled for.
CAPABILITY = "7.5"
CAPABILITY_WRITTEN = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Device:
    """One GPU. `name` is the engine's (`Vulkan0`), `kind` one of KINDS, memory in bytes.

    `environment` is what the engine must have to list it; `capability` is NVIDIA's word for what a GPU can do (`8.6`).
    """

    name: str
    description: str
    kind: str = DISCRETE
    driver: str | None = None
    memory_total: int = 0
    memory_free: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    capability: str | None = None

    @property
    def too_old(self) -> bool:
        """Whether there is no code for it."""
        return self.capability is not None and _version(self.capability) < _version(CAPABILITY)

    @property
    def title(self) -> str:
        """For people: `NVIDIA GeForce RTX 3060`, without what the driver says of itself behind it."""
        return self.description.partition(" (")[0] or self.name


@dataclass(frozen=True)
class Look:
    """What was seen of one backend: its devices, or in `trouble` why there was nothing to see.

    `remedy`: what to do about that, if anything.
    """

    backend: str
    devices: tuple[Device, ...] = ()
    trouble: str | None = None
    remedy: str | None = None


def looks_from(value: Any) -> tuple[Look, ...]:
    """Looks out of JSON, as `info --json` prints them. Raises ValueError for what is none."""
    try:
        return tuple(_look(item) for item in value)
    except (TypeError, KeyError, AttributeError):
        raise ValueError("'gpus' is no list of backends with their devices") from None


def _look(item: Any) -> Look:
    devices = tuple(Device(**device) for device in item.get("devices", ()))
    if not all(device.kind in KINDS and isinstance(device.memory_free, int) for device in devices):
        raise ValueError(f"a device of 'gpus' is of no known kind: {', '.join(KINDS)}")
    if not all(device.capability is None or CAPABILITY_WRITTEN.fullmatch(device.capability) for device in devices):
        raise ValueError("a 'capability' of 'gpus' is no pair of numbers such as '8.6'")
    return Look(str(item["backend"]), devices, item.get("trouble"), item.get("remedy"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in text.split("."))
