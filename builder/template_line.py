"""In which line of a chat template a mistake is, where the engine does not say; knows only the form of Jinja's tags."""

import bisect
import re
from collections.abc import Callable

# What stands in comments, raw blocks and expressions is no tag, whatever it looks like.
TAG = re.compile(
    r"\{#.*?#\}|\{%[-+]?\s*raw\b.*?endraw\s*[-+]?%\}|\{\{.*?\}\}|\{%[-+]?\s*(?P<name>\w+)(?P<rest>.*?)%\}", re.DOTALL
)
BEGIN = re.compile(r"\{[{%#]")
BLOCKS = ("if", "for", "macro", "call", "filter", "set", "generation")


def line(template: str, is_refused: Callable[[str], bool]) -> int | None:
    """The line, from 1 on, of the first tag with which the template is refused; None where none is to blame.

    Beginnings of the template are tried, with the blocks closed that are open there.
    """
    ends = [match.end() for match in TAG.finditer(template)]
    fine = bisect.bisect_left(ends, True, key=lambda end: is_refused(_closed(template[:end])))
    begin = BEGIN.search(template, ends[fine - 1] if fine else 0)
    offsets = [begin.start()] if begin else [offset for offset, _ in _open(template)]
    return template.count("\n", 0, offsets[-1]) + 1 if offsets else None


def _closed(begin: str) -> str:
    names = [name for _, name in _open(begin)]
    return begin + "".join(f"{{% end{name} %}}" for name in reversed(names))


def _open(text: str) -> list[tuple[int, str]]:
    """Offset and name of the blocks that are open at its end, the outermost first."""
    stack: list[tuple[int, str]] = []
    for match in TAG.finditer(text):
        name = match["name"] or ""
        if name.startswith("end"):
            stack = stack[:-1]
        elif name in BLOCKS and not (name == "set" and "=" in match["rest"]):
            stack.append((match.start(), name))
    return stack
