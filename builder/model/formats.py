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
    return next((name for name in sorted(formats(), key=len, reverse=True) if _is_in(name, title.lower())), None)


def _is_in(name: str, title: str) -> bool:
    """Whether a title has the name, however its parts are joined, and no number of parameters that begins like it."""
    parts = re.findall("[a-z]+|[0-9]+", name)
    return re.search("[^a-z0-9]?".join(parts) + r"(?![0-9]|\.?[0-9]*b(?![a-z0-9]))", title) is not None
