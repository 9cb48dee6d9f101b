"""What a recipe says, whatever form it has: values for the options of `mkllm build`, and where each stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkllm.builder.errors import UnusableRecipe
from mkllm.builder.model import address, ollama
from mkllm.builder.model.hub_reference import PREFIX
from mkllm.builder.model.reference import DEMO, SUFFIX

ELSEWHERE = (PREFIX, ollama.PREFIX)


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


def model_beside(text: str, folder: Path) -> str:
    """The model reference `text` of a recipe in `folder`: names of files count from there."""
    if text == DEMO or text.startswith(ELSEWHERE) or address.is_address(text):
        return text
    place = folder / text
    is_file = text.endswith(SUFFIX) or text.startswith(("./", "../", "/")) or text in (".", "..") or place.exists()
    return str(place) if is_file else text
