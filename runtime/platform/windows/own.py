"""This process on Windows. A frozen program is two: the launcher, which unpacks it and waits, and its child."""

import _thread
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

assert sys.platform == "win32"

from mkllm.runtime.platform.windows import calls

QUERY = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION
FOREVER = 0xFFFFFFFF
LONGEST_PATH = 32768


def own_program() -> str:
    """The frozen program's file, which cannot be replaced while it runs."""
    return sys.executable


def own_pids() -> tuple[int, ...]:
    """This process, and its launcher."""
    launcher = _launcher()
    if launcher is None:
        return (os.getpid(),)
    calls.CloseHandle(launcher)
    return os.getpid(), os.getppid()


def guardian() -> Callable[[], None] | None:
    """What returns when the launcher is gone; None where there is none."""
    launcher = _launcher()
    if launcher is None:
        return None

    def wait() -> None:
        calls.WaitForSingleObject(launcher, FOREVER)

    return wait


def _launcher() -> int | None:
    """A handle of the parent, if that runs this same program."""
    if not getattr(sys, "frozen", False):
        return None
    parent: int | None = calls.OpenProcess(calls.SYNCHRONIZE | QUERY, False, os.getppid())
    if parent is None:
        return None
    name, length = ctypes.create_unicode_buffer(LONGEST_PATH), ctypes.c_ulong(LONGEST_PATH)
    found = calls.QueryFullProcessImageName(parent, 0, name, ctypes.byref(length))
    with contextlib.suppress(OSError):
        if found and os.path.samefile(name.value, sys.executable):
            return parent
    calls.CloseHandle(parent)
    return None


def end_self() -> None:
    """As if somebody had asked this process to end."""
    _thread.interrupt_main(signal.SIGTERM)


def release() -> str:
    """Of Windows."""
    version = sys.getwindowsversion()
    return f"{version.major}.{version.minor}.{version.build}"
