"""A Go template in pieces: text, and the words of each action; knows what belongs together, not what it means."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<character>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?[0-9][0-9a-fA-FxX_.]*)
    |(?P<field>(?:\.[A-Za-z_][A-Za-z0-9_]*)+)
    |(?P<dot>\.)
    |(?P<variable>\$[A-Za-z0-9_]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>:=|[=,|()])""",
    re.VERBOSE,
)
COMMENT = re.compile(r"\{\{(?:-\s+)?/\*.*?\*/(?P<trim>\s+-)?\}\}", re.DOTALL)
LEFT, RIGHT = "{{", "}}"
SPACE = " \t\r\n"
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
HEX = {"x": 2, "u": 4, "U": 8}


class TemplateMistake(Exception):
    """What cannot be done with a template; `offset` is where in its text."""

    def __init__(self, offset: int, sentence: str) -> None:
        super().__init__(sentence)
        self.offset = offset


@dataclass(frozen=True)
class Word:
    """A word of an action; `kind` is the name of its group in WORD, `text` what stands there."""

    kind: str
    text: str
    offset: int


@dataclass(frozen=True)
class Piece:
    """A stretch of text, or an action with its words (`words` None: text)."""

    text: str
    offset: int
    words: tuple[Word, ...] | None = None


def pieces(template: str) -> list[Piece]:
    """The whole template, white space trimmed where it says so. Raises TemplateMistake."""
    found: list[Piece] = []
    at, trim = 0, False
    while at < len(template):
        start = template.find(LEFT, at)
        text = template[at:] if start < 0 else template[at:start]
        text = text.lstrip(SPACE) if trim else text
        if start >= 0 and _trims_left(template, start):
            text = text.rstrip(SPACE)
        if text:
            found.append(Piece(text, at))
        if start < 0:
            break
        action, at, trim = _action(template, start)
        found += [action] if action else []
    return found


def _trims_left(template: str, start: int) -> bool:
    return template[start + 2 : start + 3] == "-" and template[start + 3 : start + 4] in (*SPACE,)


def _action(template: str, start: int) -> tuple[Piece | None, int, bool]:
    """The action that begins there (None: a comment), where it ends, and whether it trims the text behind it."""
    if comment := COMMENT.match(template, start):
        return None, comment.end(), bool(comment["trim"])
    words: list[Word] = []
    at = start + (3 if _trims_left(template, start) else 2)
    while True:
        if template.startswith(RIGHT, at):
            return Piece(template[start : at + 2], start, tuple(words)), at + 2, False
        trims = re.compile(r"\s+-\}\}").match(template, at)
        if trims:
            return Piece(template[start : trims.end()], start, tuple(words)), trims.end(), True
        match = WORD.match(template, at)
        if not match:
            what = f"{template[at]!r} is not part of a Go template" if at < len(template) else "it has no }}"
            raise TemplateMistake(min(at, len(template) - 1) if at < len(template) else start, what)
        if match.lastgroup != "space":
            words.append(Word(match.lastgroup or "", match[0], at))
        at = match.end()


def unquoted(word: Word) -> str:
    """What a string stands for. Raises TemplateMistake."""
    if word.text.startswith("`"):
        return word.text[1:-1].replace("\r", "")
    return "".join(_unescaped(word))


def _unescaped(word: Word) -> Iterator[str]:
    text, at = word.text[1:-1], 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter != "\\":
            yield letter
            continue
        kind = text[at]
        at += 1
        digits = text[at : at + HEX.get(kind, 0)]
        try:
            yield ESCAPES[kind] if kind in ESCAPES else chr(int(digits, 16))
        except (ValueError, OverflowError):
            raise TemplateMistake(word.offset, f"{word.text} has an escape that is not understood") from None
        at += len(digits)
