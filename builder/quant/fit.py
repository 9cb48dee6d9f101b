"""The best type of a model that fits into so much memory, beside its caches and buffers; pure but for the sizes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mkllm.builder.devices import Device, UnknownDevice, find_device
from mkllm.builder.errors import TooSmall
from mkllm.builder.needs import needs
from mkllm.builder.progress import size
from mkllm.builder.quant.quantize import Plan
from mkllm.builder.size import bytes_of
from mkllm.runtime.artifact.manifest import Defaults, Model

LEAST = 1000  # bytes; `6` and `7B` are not meant as that many


class NoRoom(ValueError):
    """What was given is neither a size nor a device."""


@dataclass(frozen=True)
class Room:
    """`bytes` for a model in memory, of `name`; on the device, None: on any machine."""

    name: str
    bytes: int
    device: Device | None = None

    def on(self, device: Device) -> "Room":
        """The room on that device: no more than it has."""
        there = _there(device)
        return there if there.bytes < self.bytes else replace(self, device=device)


def _there(device: Device) -> Room:
    return Room(device.sentence, device.memory - device.system, device)


def parse_room(text: str) -> Room:
    """`6GB` (10^9 bytes), `6GiB`, or a device such as `pi5`. Raises NoRoom."""
    with contextlib.suppress(ValueError):
        count = bytes_of(text)
        if count >= LEAST:
            return Room(size(count), count)
    try:
        return _there(find_device(text.strip()))
    except UnknownDevice as error:
        raise NoRoom(f"{text!r} is neither a size such as 6GB nor a device: {error}") from None


@dataclass(frozen=True)
class Choice:
    """The chosen version: None: the model as it is. It fits with a context of `tokens`. `reason` says why in words."""

    plan: Plan | None
    tokens: int
    reason: str


def choose(room: Room, model: Model, weights: int, plans: Sequence[Plan], defaults: Defaults, other: int = 0) -> Choice:
    """The first that fits of the model as it is, with `weights` bytes, and `plans`, which are the best first.

    `defaults` are the maker's, `other` are bytes of what is loaded beside it. Raises TooSmall.
    """
    wanted = needs(room.device, model, defaults, other)
    tokens = wanted.context
    beside = wanted.beside(tokens)
    versions = [(model.quantization, weights, None), *((plan.type.name, plan.size, plan) for plan in plans)]
    larger: str | None = None
    for name, count, plan in versions:
        if count + beside <= room.bytes:
            return Choice(plan, tokens, _reason(room, name, count, beside, tokens, larger))
        larger = f"{name} would take {size(count + beside)}"
    name, count, _ = min(versions, key=lambda version: version[1])
    raise TooSmall(
        f"no version of the model fits {room.name}: {name}, the smallest, takes {size(count + beside)} ({size(count)} "
        f"weights, {size(beside)} caches, buffers and programs at {tokens} tokens of context), {size(room.bytes)} are "
        "there: choose a smaller model, or a shorter --ctx-size"
    )


def _reason(room: Room, name: str, count: int, beside: int, tokens: int, larger: str | None) -> str:
    needed = (
        f"{size(count)} weights and {size(beside)} caches, buffers and programs at {tokens} tokens of context are "
        f"{size(count + beside)} of the {size(room.bytes)} that there are"
    )
    return f"{name} is the best that fits {room.name}: {needed}" + (f"; {larger}" if larger else "")
