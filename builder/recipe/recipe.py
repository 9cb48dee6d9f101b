"""What a recipe says, whatever form it has: values for the options of `mkllm build`, and where each stands."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkllm.builder.errors import UnusableRecipe
from mkllm.builder.model import address, ollama
from mkllm.builder.model.gguf import MAGIC
from mkllm.builder.model.hub_reference import PREFIX
from mkllm.builder.model.reference import DEMO, SUFFIX

ELSEWHERE = (PREFIX, ollama.PREFIX)
LONGEST = 16 << 20  # bytes
NESTED = "it is nested too deeply: make it flatter"
NUL = "a character 0 is no part of a text or of a file's name: leave it out"


@dataclass(frozen=True)
class At:
    """A place in a file, both from 1 on; `column` None: the whole line."""

    line: int
    column: int | None = None


@dataclass(frozen=True)
class Recipe:
    """`values` are by the names of click's parameters, as strings, numbers and lists; `places` tell where each stands.

    `marks`: see `modelfile.py`; None for a template that is to be used whatever the model's own is.
    """

    path: Path
    values: Mapping[str, Any]
    places: Mapping[str, At] = field(default_factory=dict)
    marks: frozenset[str] | None = None
    notes: tuple[str, ...] = ()

    def wrong(self, name: str, sentence: str) -> UnusableRecipe:
        """The failure to raise for the value of that parameter."""
        return wrong(self.path, self.places.get(name), sentence)


def wrong(path: Path, at: At | None, sentence: str) -> UnusableRecipe:
    """The failure to raise for what stands there."""
    numbers = [] if at is None else [number for number in (at.line, at.column) if number is not None]
    return UnusableRecipe(":".join([str(path), *map(str, numbers)]) + f": {sentence}")


def content(path: Path) -> bytes:
    """What is in the file of a recipe. Raises UnusableRecipe."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise UnusableRecipe(
            f"{str(path)!r} cannot be read ({(error.strerror or '?').lower()}): name a recipe or a Modelfile"
        ) from None
    if data.startswith(MAGIC):
        raise UnusableRecipe(f"{str(path)!r} is no recipe but a model: name it without -f")
    if len(data) > LONGEST:
        raise UnusableRecipe(
            f"{str(path)!r} is larger than {LONGEST >> 20} MiB, too long for a recipe: name another file"
        )
    return data


def model_beside(text: str, folder: Path) -> str:
    """The model reference `text` of a recipe in `folder`: names of files count from there."""
    if text == DEMO or text.startswith(ELSEWHERE) or address.is_address(text):
        return text
    place = folder / text
    is_file = (
        text.endswith(SUFFIX) or text.startswith(("./", "../", "/")) or text in (".", "..") or os.path.exists(place)
    )
    return str(place) if is_file else text
