"""The instructions of a Modelfile: names, values, and where they stand; knows not what they are for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z]+")
SECOND = re.compile(r"[A-Za-z0-9_]+")
BLANK = " \t"
LONG, SHORT = '"""', '"'
WITH_SECOND = {"PARAMETER": "the name of a parameter", "MESSAGE": "a role"}


class Mistake(Exception):
    """What is wrong with a Modelfile; `offset` is where in its text."""

    def __init__(self, offset: int, sentence: str) -> None:
        super().__init__(sentence)
        self.offset = offset


@dataclass(frozen=True)
class Instruction:
    """`second` is the name of a PARAMETER or the role of a MESSAGE; the value's text begins at
    `begin`, and its last line ends at `end`."""

    name: str
    second: str
    value: str
    offset: int
    begin: int
    end: int


def instructions(text: str) -> Iterator[Instruction]:
    """All of them, in order. Raises Mistake."""
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        if text[at] == "#":
            at = _line_end(text, at)
            continue
        found = _instruction(text, at)
        yield found
        at = found.end


def _instruction(text: str, offset: int) -> Instruction:
    match = NAME.match(text, offset)
    if not match:
        raise Mistake(offset, f"an instruction begins with a word, not with {text[offset]!r}")
    name, at = match[0].upper(), _blanks(text, match.end())
    second = ""
    if what := WITH_SECOND.get(name):
        match = SECOND.match(text, at)
        if not match:
            raise Mistake(offset, f"{name} is followed by {what} and a value")
        second, at = match[0], _blanks(text, match.end())
    value, begin, end = _value(text, at)
    if not value and begin == at:
        raise Mistake(offset, f"{' '.join([name, second]).strip()} has no value")
    return Instruction(name, second, value, offset, begin, end)


def _blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _value(text: str, at: int) -> tuple[str, int, int]:
    """The value without its quotes, where it begins, and the end of the line where it ends."""
    end = _line_end(text, at)
    while not _is_closed(text[at:end].strip()):
        if end == len(text):
            raise Mistake(at, "the quotes that begin here do not end")
        end = _line_end(text, end + 1)
    raw = text[at:end].strip()
    quote = _quote(raw)
    return raw[len(quote) : len(raw) - len(quote)], at + len(quote), end


def _is_closed(raw: str) -> bool:
    quote = _quote(raw)
    return len(raw) >= 2 * len(quote) and raw.endswith(quote)


def _quote(raw: str) -> str:
    return next((quote for quote in (LONG, SHORT) if raw.startswith(quote)), "")
