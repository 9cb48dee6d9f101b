"""`mkllm.toml`: the options of `mkllm build` by their names on its command line (spec/recipe.md); builds nothing."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mkllm.builder.commands.file_or import FileOr
from mkllm.builder.commands.text import AT, Text
from mkllm.builder.errors import UnusableRecipe
from mkllm.builder.recipe.recipe import NESTED, NUL, At, Recipe, content, model_beside, wrong

MODEL = "model"
SYNTAX = re.compile(r"(?P<why>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)")
WORDS = {str: "a string", int: "a number", float: "a number", bool: "true or false"}


def key(param: click.Parameter) -> str:
    """What an option or argument is called in a recipe: its first long name, without the dashes."""
    return next((name[2:] for name in param.opts if name.startswith("--")), param.name or "")


def keys(params: Sequence[click.Parameter]) -> dict[str, click.Parameter]:
    """All of a command, but those that end it and the one that names the recipe."""
    return {key(param): param for param in params if key(param) not in ("help", "file")}


def read(path: Path, params: Sequence[click.Parameter]) -> Recipe:
    """The recipe in a file. Raises UnusableRecipe."""
    try:
        return _read(path, params)
    except RecursionError:
        raise wrong(path, None, NESTED) from None


def _read(path: Path, params: Sequence[click.Parameter]) -> Recipe:
    text = _text(path)
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: Python takes no number of thousands of digits
        raise _syntax(path, text, str(error)) from None
    known = keys(params)
    values, places = {}, {}
    for name, value in table.items():
        at = At(_line(text, name))
        param = known.get(name)
        if param is None:
            raise wrong(path, at, f"there is no option {name!r}{_hint(name, known)}")
        found = _value(path, at, name, value, param)
        values[param.name or ""] = _beside(found, param, path.parent)
        places[param.name or ""] = at
    return Recipe(path, values, places)


def _text(path: Path) -> str:
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise wrong(path, None, "it is not UTF-8 text: a recipe is TOML") from None


def _syntax(path: Path, text: str, message: str) -> UnusableRecipe:
    found = SYNTAX.fullmatch(message)
    line, column = (found["line"], found["column"]) if found else (None, None)
    at = At(int(line), int(column)) if line and column else At(text.count("\n") + 1)
    why = found["why"] if found else message
    return wrong(path, at, f"it is not TOML ({why[:1].lower()}{why[1:]}): correct it")


def _line(text: str, name: str) -> int:
    """The number of the line where a key stands: the first that looks so and is not inside of a longer string."""
    form = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if form.match(line) and _is_toml("\n".join(lines[:number])):
            return number + 1
    return 1


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _hint(name: str, known: Mapping[str, click.Parameter]) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), known, 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else ": `mkllm build --help` lists them, without the dashes"


def _value(path: Path, at: At, name: str, value: Any, param: click.Parameter) -> Any:
    """The value, as click takes it from a command line: a list for what may be repeated."""
    if not param.multiple if isinstance(param, click.Option) else True:
        return _single(path, at, name, value, param)
    several = [value] if not isinstance(value, list) or (param.nargs > 1 and not _is_nested(value)) else value
    return [_single(path, at, name, one, param) for one in several]


def _is_nested(value: list[Any]) -> bool:
    return all(isinstance(one, list) for one in value)


def _single(path: Path, at: At, name: str, value: Any, param: click.Parameter) -> Any:
    if any("\0" in word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)):
        raise wrong(path, at, f"{name!r}: {NUL}")
    if param.nargs > 1:
        if isinstance(value, list) and len(value) == param.nargs and all(type(word) is str for word in value):
            return value
        raise wrong(path, at, f"{name!r} takes lists of {param.nargs} strings each, such as {_example(param)}")
    kind = _kind(param)
    fitting = (int, str) if kind is None else (int, float) if kind is float else (kind,)
    if type(value) in fitting:
        return value
    takes = "a string or a number" if kind is None else WORDS[kind]
    raise wrong(path, at, f"{name!r} takes {takes}, not {value!r:.60}")


def _kind(param: click.Parameter) -> type | None:
    """The type of TOML that an option takes; None: a string or a whole number."""
    if isinstance(param, click.Option) and param.is_flag:
        return bool
    if isinstance(param.type, click.IntRange):
        return int
    if isinstance(param.type, click.FloatRange):
        return float
    return None if param.type.name == "size" else str


def _example(param: click.Parameter) -> str:
    return '["user", "Hello"]' if param.name == "message" else str(["…"] * param.nargs)


def _beside(value: Any, param: click.Parameter, folder: Path) -> Any:
    """The value, with names of files counted from the folder of the recipe."""
    if isinstance(value, list):
        kinds = param.type.types if isinstance(param.type, click.Tuple) else None
        return [
            [_file(word, kind, folder) for word, kind in zip(one, kinds, strict=True)]
            if kinds
            else _file(one, param.type, folder)
            for one in value
        ]
    return model_beside(value, folder) if key(param) == MODEL else _file(value, param.type, folder)


def _file(value: Any, kind: click.ParamType[Any], folder: Path) -> Any:
    if isinstance(kind, click.Path):
        return value if isinstance(kind, FileOr) and value == kind.word else str(folder / value)
    if isinstance(kind, Text) and (file := kind.file(value)) is not None:
        place = str(folder / file)
        return AT + (os.path.join(os.curdir, place) if place.startswith(AT) else place)
    return value
