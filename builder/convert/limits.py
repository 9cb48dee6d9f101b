"""What llama.cpp passes over in a model's configuration, or misses, as limits.toml tells: refused, said, or completed.

Converts nothing, and knows nothing of architectures that the converter refuses itself.
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.errors import UnsupportedArchitecture

TABLE = Path(__file__).with_name("limits.toml")


@dataclass(frozen=True)
class Only:
    """Of these architectures `key` may have these values only, for the reason `why`; whatever it is where `unless` is
    true."""

    architectures: tuple[str, ...]
    key: str
    values: tuple[Any, ...]
    why: str
    unless: str | None = None

    def refuses(self, architecture: str, config: Mapping[str, Any]) -> bool:
        if architecture not in self.architectures or (self.unless and config.get(self.unless)):
            return False
        return self.key in config and config[self.key] not in self.values


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text("utf-8"))


def limits() -> tuple[Only, ...]:
    return tuple(
        Only(tuple(entry.pop("architectures")), values=tuple(entry.pop("values")), **entry)
        for entry in (dict(entry) for entry in _table()["only"])
    )


def check(config: Mapping[str, Any], told: str) -> None:
    """Raises UnsupportedArchitecture for what would become another model; `told` is what to call it."""
    for limit in limits():
        if limit.refuses(architecture(config), config):
            value = f"{limit.key} = {config[limit.key]!r}"
            raise UnsupportedArchitecture(
                f"{told!r} cannot be converted: {limit.why} ({value} in its config.json); use another model"
            )


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """With what is implied by what it does not say."""
    found = dict(config)
    for entry in _table()["implied"]:
        value = config.get(entry["of"]) if "of" in entry else entry["value"]
        if architecture(config) in entry["architectures"] and entry["key"] not in config and value is not None:
            found[entry["key"]] = value
    return found


def window(config: Mapping[str, Any]) -> int | None:
    """How many tokens back the model sees, where llama.cpp shows it all of them; None if that is its whole context."""
    table = _table()["window"]
    size, context = config.get(table["key"]), config.get("max_position_embeddings")
    if architecture(config) not in table["architectures"] or not isinstance(size, int) or size <= 0:
        return None
    if config.get(table["switch"], True) is False or (isinstance(context, int) and context <= size):
        return None
    return size


def of_window(told: str, size: int) -> str:
    """What is to be said of such a model."""
    return (
        f"note: {told!r} was made to see the last {size} tokens only, llama.cpp shows it all: within {size} tokens it "
        f"predicts what it was made to, beyond something else; --ctx-size {size} keeps it there"
    )


def architecture(config: Mapping[str, Any]) -> str:
    """The first that it names, or nothing."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""
