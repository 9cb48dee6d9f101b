"""A recipe that nobody named, since it lay in the folder that was named as the model: what it may not say.

Such a folder may come from a stranger: what it holds may not run programs, nor read or write files elsewhere.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mkllm.builder.commands.file_or import FileOr
from mkllm.builder.commands.text import Text
from mkllm.builder.recipe.recipe import Recipe
from mkllm.builder.recipe.toml import key

# The engine writes to the files that some of its words name; those that a Modelfile's parameters become name none.
UNWANTED = ("sign", "force", "engine-arg")


def expect_harmless(recipe: Recipe, params: Sequence[click.Parameter], given: set[str]) -> Recipe:
    """The recipe, with a note of where it lies. Raises UnusableRecipe for what only a recipe that is named may say;
    what the command line gives too (`given`) has no effect and is not looked at."""
    folder = recipe.path.parent
    for param in params:
        name = param.name or ""
        if name not in recipe.values or name in given:
            continue
        if key(param) in UNWANTED and not (key(param) == "engine-arg" and recipe.path.suffix != ".toml"):
            raise recipe.wrong(
                name, f"{key(param)!r} is not taken from a recipe that was found in a folder: {_advice(recipe)}"
            )
        for file in _files(recipe.values[name], param.type):
            if not _is_inside(file, folder):
                raise recipe.wrong(
                    name, f"{file!r} is outside of the folder that the recipe was found in: {_advice(recipe)}"
                )
    return replace(recipe, notes=(f"options from {recipe.path}", *recipe.notes))


def _advice(recipe: Recipe) -> str:
    return f"name it with -f {str(recipe.path)!r} if you trust it"


def _files(value: Any, kind: click.ParamType[Any]) -> Iterator[str]:
    """The files that a value names."""
    if isinstance(kind, click.Tuple):
        for one in value:
            for word, part in zip(one, kind.types, strict=True):
                yield from _files(word, part)
    elif isinstance(value, list):
        for one in value:
            yield from _files(one, kind)
    elif isinstance(kind, click.Path) and not (isinstance(kind, FileOr) and value == kind.word):
        yield str(value)
    elif isinstance(kind, Text) and (file := kind.file(value)) is not None:
        yield file


def _is_inside(file: str, folder: Path) -> bool:
    """Whether it lies in the folder, wherever links lead."""
    place, around = os.path.realpath(file), os.path.realpath(folder)
    return place != around and os.path.commonpath([place, around]) == around
