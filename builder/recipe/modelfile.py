"""A Modelfile of Ollama's as a recipe: what each instruction means to `mkllm build` (spec/recipe.md)."""

import codecs
import contextlib
import difflib
import glob
import os
from pathlib import Path
from typing import Any

from mkllm.builder.errors import ModelNotFound
from mkllm.builder.model import ollama
from mkllm.builder.model.hub_reference import PREFIX
from mkllm.builder.model.projectors import is_one
from mkllm.builder.model.split import NAME, part_names
from mkllm.builder.recipe.go_lexer import TemplateMistake
from mkllm.builder.recipe.instructions import Instruction, Mistake, instructions
from mkllm.builder.recipe.jinja import chat_template
from mkllm.builder.recipe.marks import marks
from mkllm.builder.recipe.parameters import PARAMETERS, Nothing, Option
from mkllm.builder.recipe.recipe import NESTED, NUL, At, Recipe, content, model_beside, wrong

ROLES = ("system", "user", "assistant")
HUB = ("hf.co/", "huggingface.co/")
KNOWN = ("FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE", "REQUIRES", "RENDERER", "PARSER")
AT = "@"
LISTED = 5


def read(path: Path) -> Recipe:
    """The recipe that a Modelfile is. Raises UnusableRecipe."""
    text = _text(path)
    reader = _Reader(path, text)
    try:
        for instruction in instructions(text):
            reader.take(instruction)
    except Mistake as mistake:
        raise wrong(path, at(text, mistake.offset), str(mistake)) from None
    if "model" not in reader.values:
        raise wrong(path, None, "it has no FROM, which names the model: add one")
    return Recipe(path, reader.values, reader.places, reader.marks, tuple(reader.notes))


def at(text: str, offset: int) -> At:
    """Line and column of an offset."""
    begin = text.rfind("\n", 0, offset) + 1
    return At(text.count("\n", 0, offset) + 1, offset - begin + 1)


def _text(path: Path) -> str:
    try:
        data = content(path)
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise wrong(path, None, "it is not UTF-8 text: a Modelfile is") from None
    if "\0" in text:
        raise wrong(path, at(text, text.index("\0")), NUL)
    return text


class _Reader:
    """Takes instructions one by one; `values` are for click, by the names of its parameters."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self.values: dict[str, Any] = {}
        self.places: dict[str, At] = {}
        self.marks: frozenset[str] | None = None
        self.notes: list[str] = []

    def take(self, found: Instruction) -> None:
        """Raises Mistake or UnusableRecipe."""
        match found.name:
            case "FROM":
                self._model(found)
            case "PARAMETER":
                self._parameter(found)
            case "TEMPLATE":
                self._template(found)
            case "SYSTEM":
                self._put("system", _literal(found.value), found)
            case "MESSAGE":
                self._message(found)
            case "LICENSE":
                self._add("licences", [_literal(found.value)], found)
            case "ADAPTER":
                self._add("adapters", [str(self._path.parent / os.path.expanduser(found.value))], found)
            case "REQUIRES":
                pass  # a version of Ollama, which has no say here
            case "RENDERER" | "PARSER":
                self._note(
                    found, f"{found.name} names a part of Ollama's, which is left out: the chat template has to do"
                )
            case _:
                near = difflib.get_close_matches(found.name, KNOWN, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(KNOWN)}"
                raise Mistake(found.offset, f"there is no instruction {found.name!r}: {hint}")

    def _put(self, name: str, value: Any, found: Instruction) -> None:
        self.values[name] = value
        self.places[name] = at(self._text, found.offset)

    def _add(self, name: str, values: list[Any], found: Instruction) -> None:
        self.values.setdefault(name, []).extend(values)
        self.places.setdefault(name, at(self._text, found.offset))

    def _note(self, found: Instruction, sentence: str) -> None:
        place = at(self._text, found.offset)
        self.notes.append(f"{self._path}:{place.line}:{place.column}: {sentence}")

    def _model(self, found: Instruction) -> None:
        try:
            text = model(found.value, self._path.parent)
        except Several as several:
            raise Mistake(found.offset, str(several)) from None
        if is_one(Path(text)):
            self._projector(text, found)
            return
        if (before := self.values.get("model")) and not _is_same_split(before, text):
            raise Mistake(found.offset, f"a second FROM {found.value!r}: one file has one model, leave one of them out")
        if not before:
            self._put("model", text, found)

    def _projector(self, file: str, found: Instruction) -> None:
        if "projector" in self.values:
            raise Mistake(found.offset, f"a second projector {found.value!r}: one file has one, leave one of them out")
        self._put("projector", file, found)

    def _parameter(self, found: Instruction) -> None:
        name = found.second.lower()
        known = PARAMETERS.get(name)
        if known is None:
            near = difflib.get_close_matches(name, PARAMETERS, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "see Ollama's documentation of the Modelfile"
            raise Mistake(found.offset, f"there is no parameter {found.second!r}: {hint}")
        if isinstance(known, Nothing):
            if found.value.lower() not in known.unless:
                self._note(found, f"PARAMETER {name} has no effect: {known.why}")
            return
        try:
            if isinstance(known, Option):
                self._put(known.name, _number(name, found.value, known.number), found)
            else:
                self._add("engine_arg", list(known.of(found.value)), found)
        except ValueError as error:
            raise Mistake(found.offset, f"PARAMETER {name} is {found.value!r}, and has to be {error}") from None

    def _template(self, found: Instruction) -> None:
        try:
            self._put("chat_template", _literal(chat_template(found.value)), found)
            self.marks = marks(found.value)
        except TemplateMistake as mistake:
            raise Mistake(found.begin + mistake.offset, f"TEMPLATE: {mistake}") from None
        except RecursionError:
            raise Mistake(found.offset, f"TEMPLATE: {NESTED}") from None

    def _message(self, found: Instruction) -> None:
        role = found.second.lower()
        if role not in ROLES:
            raise Mistake(found.offset, f"{found.second!r} is no role of a MESSAGE: known are {', '.join(ROLES)}")
        if role == "system":
            self._put("system", _literal(found.value), found)
        else:
            self._add("message", [[role, _literal(found.value)]], found)


class Several(Exception):
    """A name with `*` means several models."""


def model(text: str, folder: Path) -> str:
    """What FROM names: a file, or what Ollama's store has under that name, or else a short name of mkllm's.

    Raises Several, and what `ollama.find` does for a model that the store has and that cannot be used.
    """
    for prefix in HUB:
        if text.lower().startswith(prefix):
            return PREFIX + text[len(prefix) :]
    if text.startswith("~"):
        text = os.path.expanduser(text)
    if "*" in text and (files := sorted(glob.glob(os.path.join(glob.escape(str(folder)), text)))):
        return _one(text, files)
    found = model_beside(text, folder)
    if found == text and not text.startswith((PREFIX, ollama.PREFIX)):
        with contextlib.suppress(ModelNotFound):
            ollama.find(ollama.PREFIX + text)
            return ollama.PREFIX + text
    return found


def _one(text: str, files: list[str]) -> str:
    """The only model of the files, or the first of its parts. Raises Several."""
    first = Path(files[0])
    if {Path(file) for file in files} <= {first.with_name(name) for name in part_names(first.name)}:
        return str(first)
    listed = ", ".join(repr(os.path.basename(file)) for file in files[:LISTED]) + (", …" if files[LISTED:] else "")
    raise Several(f"FROM {text!r} means {len(files)} files ({listed}): name one of them")


def _is_same_split(one: str, other: str) -> bool:
    names = [NAME.fullmatch(Path(text).name) for text in (one, other)]
    return all(names) and len({match["stem"] for match in names if match}) == 1


def _number(name: str, text: str, kind: type[int] | type[float]) -> float | int:
    """Ollama's number, as the engine has it. Raises ValueError."""
    try:
        number = kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None
    return (
        max(number, -1) if name == "num_predict" else number
    )  # -2, to the end of the context, is where it ends anyway


def _literal(text: str) -> str:
    """A text that begins with `@` would be the name of a file."""
    return AT + text if text.startswith(AT) else text
