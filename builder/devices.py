"""The devices that `mkllm build --for` knows (devices.toml): what they have, and what is set for them."""

import difflib
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("devices.toml")
MIB = 1 << 20
GIB = 1 << 30


class UnknownDevice(ValueError):
    """No device has that name; says what to choose."""


@dataclass(frozen=True)
class Device:
    """`memory` in bytes, `system` of them gone before a model comes; `bandwidth` in bytes a second at its peak.

    None: nothing is known of it, or nothing is set. `target` None: it runs files of any target.
    """

    name: str
    title: str
    source: str
    memory: int
    system: int
    context: int
    machine: str | None = None
    target: str | None = None
    cpu: str | None = None
    cores: int | None = None
    bandwidth: float | None = None
    cache_type: str | None = None
    batch: int | None = None

    @property
    def sentence(self) -> str:
        """`a Raspberry Pi 5 with 4 GB`."""
        article = "" if self.title.startswith("any") else "a "
        size = f"{self.memory // GIB} GB" if self.memory >= GIB else f"{self.memory // MIB} MB"
        return f"{article}{self.title} with {size}"


@functools.cache
def devices() -> dict[str, Device]:
    """All, by name; in the table's order."""
    raw = tomllib.loads(PATH.read_text())
    return {name: _device(name, {**raw["family"][row["family"]], **row}) for name, row in raw["device"].items()}


@functools.cache
def usual() -> dict[str, str]:
    """What a family's own name stands for: `pi5` for `pi5-4gb`."""
    families = tomllib.loads(PATH.read_text())["family"]
    return {name: family["usual"] for name, family in families.items() if "usual" in family}


def find_device(name: str) -> Device:
    """The device of that name, in any case. Raises UnknownDevice."""
    wanted = name.lower()
    if found := devices().get(usual().get(wanted, wanted)):
        return found
    near = difflib.get_close_matches(wanted, [*devices(), *usual()], 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownDevice(f"there is no device {name!r}: {hint}`mkllm devices` lists them")


def _device(name: str, row: dict[str, Any]) -> Device:
    known = {key: value for key, value in row.items() if key not in ("family", "usual")}
    sizes = {"memory": row["memory"] * MIB, "system": row["system"] * MIB}
    speeds = {"bandwidth": row["bandwidth"] * 1e9} if "bandwidth" in row else {}
    return Device(name=name, **{**known, **sizes, **speeds})
