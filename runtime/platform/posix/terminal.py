"""Terminals on POSIX systems."""

import errno
import signal
import sys
from typing import IO

assert sys.platform != "win32"

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READER_GONE = frozenset({errno.EPIPE})
UNDECODABLE = "surrogateescape"  # a path with bytes that are not UTF-8 is printed as it is


def prepare() -> None:
    """Have the end of the terminal arrive as a signal: it does."""


def ending(number: int) -> int:
    """The signal that stands for this one in exit codes."""
    return number


def escapes(stream: IO[str]) -> bool:
    """Whether the terminal behind this stream knows colours, and how to erase."""
    return True


def hold_open(code: int) -> None:
    """Keep what was said in sight: a terminal outlives its programs."""


def has_input(source: IO[bytes], seconds: float) -> bool:
    """Whether something can be read within that time, or nothing will come any more."""
    import select

    return bool(select.select([source], [], [], seconds)[0])


def read_all(source: IO[bytes]) -> bytes:
    """What comes to the end of it."""
    return source.read()
