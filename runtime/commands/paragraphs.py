"""Sections of short sentences for a terminal of any width; knows nothing of what they say."""

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mkllm.runtime.artifact.shown import shown

NARROW, WIDE = 40, 110
LABEL = 14


@dataclass(frozen=True)
class Line:
    """`label` stands at the left, once for several lines with the same one."""

    label: str
    text: str


def page(sections: Iterable[tuple[str, Iterable[Line]]], width: int) -> Iterator[str]:
    """The lines of all sections that have any."""
    first = True
    for title, lines in sections:
        rows = [row for line in lines for row in _row(line, width)]
        if rows:
            yield from ([] if first else [""])
            yield title
            yield from rows
            first = False


def terminal_width() -> int:
    """That of the terminal on standard output, within reason; of a file or pipe a usual one."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        columns = WIDE
    return min(WIDE, max(NARROW, columns or WIDE))


def _row(line: Line, width: int) -> Iterator[str]:
    label = f"  {line.label}".ljust(LABEL)
    for part in wrapped(line.text, width - len(label)):
        yield (label + part).rstrip()
        label = " " * LABEL


def wrapped(text: str, width: int) -> Iterator[str]:
    """`text` in lines of at most `width` columns, but for words that are longer; nothing in it steers a terminal."""
    row = ""
    for word in shown(text).split(" "):
        longer = f"{row} {word}" if row else word
        if row and columns(longer) > width:
            yield row
            longer = word
        row = longer
    yield row


def columns(text: str) -> int:
    """What a terminal takes for it: East Asian letters are wide, accents of their own take nothing."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)
