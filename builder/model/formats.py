"""Formats of prompts by name (formats.toml), for models that bring no chat template of their own; asks nobody."""

import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("formats.toml")
NEAR = 3
FALLBACK = "chatml"  # what the engine takes where there is no template


@dataclass(frozen=True)
class Format:
    """`template` is Jinja, as the engine and transformers render it."""

    name: str
    title: str
    template: str


@functools.cache
def formats() -> Mapping[str, Format]:
    """All formats by their names, in the order of the file."""
    table = tomllib.loads(PATH.read_text(encoding="utf-8"))
    return {name: Format(name, raw["title"], raw["template"].strip("\n")) for name, raw in table.items()}


def near(name: str) -> list[str]:
    """The nearest names to one that is not known."""
    return difflib.get_close_matches(name.lower(), formats(), NEAR, 0.5)


def suggested(title: str) -> str | None:
    """The format whose name is in a model's, if there is one."""
    letters = _letters(title)
    return next((name for name in sorted(formats(), key=len, reverse=True) if _letters(name) in letters), None)


def _letters(text: str) -> str:
    """Without what is written in several ways."""
    return re.sub("[^a-z0-9]", "", text.lower())
