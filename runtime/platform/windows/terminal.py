"""The console on Windows, which may belong to this program alone: then its window closes with it."""

import _thread
import ctypes
import errno
import signal
import sys
import threading
import time
from typing import IO

assert sys.platform == "win32"

import msvcrt

from mkllm.runtime.platform.windows import calls
from mkllm.runtime.platform.windows.children import LONGEST_WAIT

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
READER_GONE = frozenset({errno.EPIPE, errno.EINVAL})  # the C library knows no better word for ERROR_NO_DATA
UNDECODABLE = "replace"
ESCAPES = 0x4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING
BREAK = 1  # CTRL_BREAK_EVENT
CLOSED = (2, 5, 6)  # CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT
LAST_SECONDS = 10.0  # Windows itself waits for five
QUIET = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
PEEK_SECONDS = 0.05


def prepare() -> None:
    """Have the end of the console, of the session and of the system arrive as SIGTERM."""
    calls.SetConsoleCtrlHandler(_handler, True)


def _on_control(event: int) -> int:
    """In a thread of Windows's. Where the console goes Windows ends the program when this returns, so it waits."""
    if event not in (BREAK, *CLOSED):
        return 0
    _thread.interrupt_main(signal.SIGTERM)
    if event in CLOSED:
        time.sleep(LAST_SECONDS)
    return 1


_handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(_on_control)  # as long as Windows may call it


def ending(number: int) -> int:
    """The signal that stands for this one in exit codes: Ctrl-Break is an end like any other."""
    return signal.SIGTERM if number == signal.SIGBREAK else number


def escapes(stream: IO[str]) -> bool:
    """Whether the terminal behind this stream knows colours, and how to erase; it is asked to. Old consoles do not."""
    mode = ctypes.c_ulong()
    try:
        handle = msvcrt.get_osfhandle(stream.fileno())
    except (OSError, ValueError):
        return False
    if not calls.GetConsoleMode(handle, ctypes.byref(mode)):
        return False
    return bool(mode.value & ESCAPES or calls.SetConsoleMode(handle, mode.value | ESCAPES))


def hold_open(code: int) -> None:
    """After a failure, keep the window open that would close with this program: it was started by a double click."""
    streams = (sys.stdin, sys.stderr)  # None where there is no console
    if code in QUIET or not all(stream and stream.isatty() for stream in streams) or not _is_alone():
        return
    print("Press any key to close this window.", file=sys.stderr, flush=True)
    msvcrt.getwch()


def _is_alone() -> bool:
    """Whether nobody but this program uses the console."""
    pid = ctypes.c_ulong()
    return bool(calls.GetConsoleProcessList(ctypes.byref(pid), 1) == 1)


def has_input(source: IO[bytes], seconds: float) -> bool:
    """Whether something can be read within that time, or nothing will come any more."""
    handle, end = msvcrt.get_osfhandle(source.fileno()), time.monotonic() + seconds
    ready = ctypes.c_ulong()
    while calls.PeekNamedPipe(handle, None, 0, None, ctypes.byref(ready), None):  # it fails for files and ended pipes
        if ready.value:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(PEEK_SECONDS)
    return True


def read_all(source: IO[bytes]) -> bytes:
    """What comes to the end of it; in another thread, since Ctrl-C does not come through a wait for a pipe."""
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(source.read()), daemon=True)
    reading.start()
    while reading.is_alive():
        reading.join(LONGEST_WAIT)
    return found[0] if found else b""
