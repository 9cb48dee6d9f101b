"""Reads how the engine lists GPUs, and what their driver said before; starts nothing."""

import re
from collections.abc import Mapping, Sequence

from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.hardware.devices import DISCRETE, INTEGRATED, SOFTWARE, Device

MIB = 1 << 20

HEADING = "Available devices:"
LISTED = re.compile(r"^  (?P<name>\D+(?P<index>\d+)): (?P<about>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)$")
DETAILS = re.compile(r"ggml_vulkan: (?P<index>\d+) = .* \((?P<driver>[^()]*)\) \| uma: (?P<shared>[01]) \|")
OF_CPU = "Device type is CPU"
OF_METAL = re.compile(r"^ggml_metal_device_init: has unified memory += (?P<shared>true|false)$")
OF_CUDA = re.compile(r"  Device (?P<index>\d+): .*, compute capability (?P<capability>\d+\.\d+), VMM: ")


def read_devices(words: str, environment: Mapping[str, str] | None = None) -> tuple[Device, ...] | None:
    """The devices of one backend, which are there in that `environment`; None for words that are no such list."""
    lines = words.splitlines()
    if HEADING not in lines:
        return None
    details = _details(lines)
    return tuple(
        Device(
            name=found["name"],
            description=shown(found["about"]),
            memory_total=int(found["total"]) * MIB,
            memory_free=min(int(found["free"]), int(found["total"])) * MIB,
            environment=environment or {},
            **details.get(found["index"], {}),
        )
        for found in map(LISTED.fullmatch, lines)
        if found
    )


def _details(lines: Sequence[str]) -> dict[str, dict[str, str]]:
    """`kind` and `driver`, or `capability`, by the device's number. What computes on the CPU has a second line.

    Metal's devices come one after the other, without a number."""
    details: dict[str, dict[str, str]] = {}
    last: dict[str, str] = {}
    for line in lines:
        if found := DETAILS.search(line):
            kind = INTEGRATED if found["shared"] == "1" else DISCRETE
            last = details[found["index"]] = {"driver": shown(found["driver"]), "kind": kind}
        elif OF_CPU in line:
            last["kind"] = SOFTWARE
        elif found := OF_CUDA.search(line):
            details[found["index"]] = {"capability": found["capability"]}
        elif found := OF_METAL.search(line):
            details[str(len(details))] = {"kind": INTEGRATED if found["shared"] == "true" else DISCRETE}
    return details
