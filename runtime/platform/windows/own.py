"""This process on Windows."""

import _thread
import signal
import sys
from collections.abc import Callable

assert sys.platform == "win32"


def own_program() -> str:
    """The frozen program's file, which cannot be replaced while it runs."""
    return sys.executable


def guardian() -> Callable[[], None] | None:
    """None: this process is the first, and what watches over a temporary home needs no watching."""
    return None


def end_self() -> None:
    """As if somebody had asked this process to end."""
    _thread.interrupt_main(signal.SIGTERM)


def release() -> str:
    """Of Windows."""
    version = sys.getwindowsversion()
    return f"{version.major}.{version.minor}.{version.build}"
