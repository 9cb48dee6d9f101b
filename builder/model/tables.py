"""What the pinned llama.cpp knows of GGUF files: architectures, tensor types, names of quantizations (ggml.toml)."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("ggml.toml")


@dataclass(frozen=True)
class TensorType:
    """A number format: `block` elements take `size` bytes."""

    name: str
    block: int
    size: int


@dataclass(frozen=True)
class Tables:
    """The tables; types are by their number in the file."""

    architectures: frozenset[str]
    types: dict[int, TensorType]
    file_types: dict[int, str]


@functools.cache
def tables() -> Tables:
    """The tables as shipped."""
    raw = tomllib.loads(PATH.read_text())
    return Tables(
        architectures=frozenset(raw["architectures"]),
        types={int(number): TensorType(*entry) for number, entry in raw["types"].items()},
        file_types={int(number): name for number, name in raw["file_types"].items()},
    )
