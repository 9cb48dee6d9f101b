"""The catalogue: short names of models that are on the hub (catalog.toml); asks nobody."""

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkllm.builder.errors import ModelNotFound
from mkllm.builder.model import quant

PATH = Path(__file__).with_name("catalog.toml")
NEAR = 3
LISTED = 8
SEARCH = "`mkllm models WORD` searches the catalogue, hf:organisation/repository names any model of the hub"


@dataclass(frozen=True)
class File:
    """One quantization of a model: of a split one the first part. `size` is that of all parts, None if unknown.

    `exact`: whether that size is exact. `sha256` is what the file had when it was looked up, None for parts.
    """

    name: str
    size: int | None
    exact: bool
    sha256: str | None
    known_from: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue. `billions` of parameters, roughly. None for what could not be looked up."""

    alias: str
    also: tuple[str, ...]
    title: str
    family: str
    kind: str
    repository: str
    revision: str | None
    billions: float | None
    default: str
    license: str | None
    license_link: str | None
    context: int | None
    template: str | None
    files: Mapping[str, File]
    known_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All short names."""
        return (self.alias, *self.also)

    def size(self, quantization: str) -> tuple[float, bool] | None:
        """Bytes of that file, and whether that is known exactly; else about, by its parameters."""
        file = self.files[quantization]
        if file.size:
            return file.size, file.exact
        bits = quant.BITS.get(quantization)
        return (self.billions * 1e9 * bits / 8, False) if bits and self.billions else None


@dataclass(frozen=True)
class Wanted:
    """What a short name stands for; `quantization` is not among the entry's files when only the hub may have it."""

    entry: Entry
    quantization: str

    @property
    def file(self) -> File | None:
        """The file, if the catalogue knows it."""
        return self.entry.files.get(self.quantization)


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    return read(PATH)


def read(path: Path) -> tuple[Entry, ...]:
    """The entries of a catalogue file."""
    return tuple(_entry(raw) for raw in tomllib.loads(path.read_text(encoding="utf-8"))["model"])


def find(text: str) -> Wanted:
    """What `name`, `name:quantization` or `name-quantization` stands for.

    Raises ModelNotFound: with the choices where several could be meant, else with the nearest names.
    """
    name, colon, wanted = text.lower().partition(":")
    if found := _by_name(name):
        return Wanted(found, _quantization(text, found, wanted) if colon else found.default)
    if not colon:
        for place in (at for at, letter in enumerate(name) if letter == "-"):
            found = _by_name(name[:place])
            if found and quant.is_quantization(name[place + 1 :]):
                return Wanted(found, _quantization(text, found, name[place + 1 :]))
    raise _unknown(text, name)


def search(words: str) -> list[Entry]:
    """Entries in whose names, title, family, licence or repository every word is."""
    parts = words.lower().split()
    return [entry for entry in entries() if all(part in _searched(entry) for part in parts)]


def _searched(entry: Entry) -> str:
    texts = (*entry.names, entry.title, entry.family, entry.kind, entry.license or "", entry.repository)
    return " ".join(texts).lower()


def _by_name(name: str) -> Entry | None:
    return next((entry for entry in entries() if name in entry.names), None)


def _quantization(text: str, entry: Entry, wanted: str) -> str:
    if chosen := quant.choose(wanted, entry.files):
        return chosen
    if not quant.is_quantization(wanted):
        raise ModelNotFound(f"{text!r} names no quantization: {entry.alias!r} has {', '.join(entry.files)}")
    return quant.normal(wanted)


def _unknown(text: str, name: str) -> ModelNotFound:
    stem = name.rstrip("-")
    choices = [entry.alias for entry in entries() if stem and entry.alias.startswith(stem)]
    if len(choices) > 1:
        listed = ", ".join(choices[:LISTED]) + (", …" if len(choices) > LISTED else "")
        return ModelNotFound(f"{text!r} may be any of {len(choices)} models: name one of {listed}")
    return ModelNotFound(f"there is no model {text!r}: {_near(name)}{SEARCH}")


def _near(name: str) -> str:
    known = ["demo", *(alias for entry in entries() for alias in entry.names)]
    near = difflib.get_close_matches(name, known, NEAR, 0.5)
    return f"did you mean {' or '.join(repr(other) for other in near)}? " if near else ""


def _entry(raw: Mapping[str, Any]) -> Entry:
    return Entry(
        alias=raw["alias"],
        also=tuple(raw.get("also", ())),
        title=raw["title"],
        family=raw["family"],
        kind=raw["kind"],
        repository=raw["repository"],
        revision=raw.get("revision"),
        billions=raw.get("billions"),
        default=raw["default"],
        license=raw.get("license"),
        license_link=raw.get("license_link"),
        context=raw.get("context"),
        template=raw.get("template"),
        files={name: _file(file) for name, file in raw["files"].items()},
        known_from=raw.get("known_from", {}),
    )


def _file(raw: Mapping[str, Any]) -> File:
    size = raw.get("size", raw.get("about"))
    return File(raw["name"], size, "size" in raw, raw.get("sha256"), tuple(raw["known_from"]))
