"""A terminal's last line written over, and text in a faint colour, with escapes where the terminal knows them."""

import os
from typing import IO

from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.platform.terminal import escapes

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
ERASE = "\x1b[K"
USUAL_COLUMNS = 80


def rewritten(text: str, stream: IO[str]) -> str:
    """`text` in place of the line that the cursor is on, as much of it as one line holds."""
    room = _columns(stream) - 1
    text = shown(text)[:room]
    return f"\r{ERASE}{text}" if escapes(stream) else f"\r{text:<{room}}\r{text}"


def dimmed(text: str, stream: IO[str]) -> str:
    """`text` in a faint colour."""
    return f"{DIM}{text}{PLAIN}" if escapes(stream) else text


def _columns(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS
