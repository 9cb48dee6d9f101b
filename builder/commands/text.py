"""A text on the command line: as it is, or `@FILE` to read it from; knows not what it is for."""

import json
from pathlib import Path
from typing import Any

import click

from mkllm.builder.text import is_text

AT = "@"


class Text(click.ParamType[str]):
    """A text of at most `longest` bytes as JSON in UTF-8. One that begins with `@@` begins with `@`."""

    name = "text|@file"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def file(self, value: str) -> str | None:
        """The file that a value is read from; None for one that is the text itself."""
        return value[1:] if value.startswith(AT) and not value.startswith(AT * 2) else None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name, text = "what was given", str(value)
        if (file := self.file(text)) is not None:
            name = repr(file)
            text = self._read(Path(file), param, ctx)
        elif text.startswith(AT * 2):
            text = text[1:]
        if not is_text(text) or "\0" in text:
            self.fail(f"{name} is not UTF-8 text: give a text", param, ctx)
        if len(json.dumps(text, ensure_ascii=False).encode()) > self._longest:
            self._too_long(name, param, ctx)
        return text

    def _read(self, path: Path, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(self._longest + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.fail(f"{str(path)!r} cannot be read ({reason}): name a text file", param, ctx)
        if len(data) > self._longest:
            self._too_long(repr(str(path)), param, ctx)
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail(f"{str(path)!r} is not UTF-8 text: name a text file", param, ctx)

    def _too_long(self, name: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        self.fail(f"{name} is longer than {self._longest >> 10} KiB: give a shorter text", param, ctx)
