"""What CUDA says through its backend of NVIDIA's driver, in words for people; starts nothing."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.hardware.devices import Device

# Of the kernel's module, whose first line names its version.
VERSION_FILE = Path("/proc/driver/nvidia/version")
VERSION = re.compile(r"\b\d{3,}\.\d+(?:\.\d+)?\b")
# The first driver that runs what the compiler of builder/kit/pins.toml makes.
NEEDED = "580"
REMEDY = f"Install NVIDIA's driver {NEEDED} or a later one, or use a file that was made with 'vulkan' as well."
REFUSED = re.compile(r"failed to initialize CUDA: (.+)")
OLD = "driver version is insufficient"
NO_GPU = "no CUDA-capable device is detected"


def driver_version(file: Path | None = None) -> str | None:
    """Such as `580.65.06`; None where there is no driver of NVIDIA's, or none that says so."""
    try:
        found = VERSION.search((file or VERSION_FILE).read_text("utf-8", "replace").partition("\n")[0])
    except OSError:
        return None
    return found[0] if found else None


def refusal(words: str) -> tuple[str, str | None] | None:
    """Why CUDA does not start, and what to do about it; None where it starts, or sees no GPU."""
    refused = REFUSED.search(words)
    if refused is None or NO_GPU in refused[1]:
        return None
    if OLD not in refused[1]:
        return f"CUDA does not start: {shown(refused[1])!r:.200}", None
    found = driver_version()
    return f"{f'driver {found}' if found else 'its driver is too old'}, needs {NEEDED}", REMEDY


def with_driver(devices: Sequence[Device]) -> tuple[Device, ...]:
    """With the version of the driver where CUDA listed them."""
    if not any(device.capability for device in devices):
        return tuple(devices)
    version = driver_version()
    return tuple(replace(device, driver=version) if device.capability else device for device in devices)
