"""Programs that are started from here, on Windows: in a job that ends them with this process, however that ends."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

assert sys.platform == "win32"

import msvcrt

from mkllm.runtime.platform.windows.job import add_to_job

SEPARATOR = "|"  # between the files of MKLLM_BACKENDS: the one that cannot be in a file's name
DETACHED_PROCESS = 0x8
# Without a console, neither Ctrl-C nor the closing of the window reaches them: what becomes of them is decided here.
FLAGS = DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
LONGEST_WAIT: float | None = 0.2  # only between two waits comes a signal through
LAST_SECONDS = 1.0
PIECE = 65536

ERROR = 0xC0000000  # of this and above are the statuses that Windows ends a program with, NTSTATUS
BREAKPOINT = 0x80000003
KILLED = 0x40010004  # DBG_TERMINATE_PROCESS; also stands for whatever number a program was ended with from outside
ILLEGAL, UNREADABLE, CTRL_C, ABORTED = 0xC000001D, 0xC0000006, 0xC000013A, 3
FROM_OUTSIDE = frozenset({KILLED, CTRL_C})
CHOSEN = (1, 9, 15)  # what those end programs with who end them: the Task Manager and taskkill; Python's kill
NAMES = {
    0xC0000005: "an access violation",
    UNREADABLE: "a page that could not be read from its file",
    0xC0000017: "a lack of memory",
    ILLEGAL: "an illegal instruction",
    0xC0000094: "a division by zero",
    0xC00000FD: "a stack overflow",
    0xC0000135: "a library that is missing",
    0xC0000139: "a function that is missing from a library",
    CTRL_C: "Ctrl-C",
    0xC0000374: "a damaged heap",
    0xC0000409: "a fatal error that it found itself",
    ABORTED: "an abort",
    KILLED: "another program",
}

_inheriting = threading.Lock()


def start(
    words: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str], **streams: Any
) -> "subprocess.Popen[Any]":
    """Start a program in this process's job. It inherits these descriptors and its standard `streams`."""
    handles = [number(descriptor) for descriptor in descriptors]
    startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles} if handles else {})
    with _inheriting:
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        try:
            process = subprocess.Popen(words, env=environment, startupinfo=startup, creationflags=FLAGS, **streams)
        finally:
            for handle in handles:
                os.set_handle_inheritable(handle, False)
    add_to_job(int(process._handle))  # type: ignore[attr-defined]
    return process


def number(descriptor: int) -> int:
    """What a program that inherits it knows this descriptor by: its handle."""
    return msvcrt.get_osfhandle(descriptor)


def ask_to_end(process: "subprocess.Popen[Any]", lifeline: IO[bytes]) -> None:
    """Have it end in its own way: Windows has no signals, so its lifeline ends."""
    with contextlib.suppress(OSError):
        lifeline.close()


def kill(process: "subprocess.Popen[Any]") -> None:
    """End it as it stands; what it started goes with the job."""
    with contextlib.suppress(OSError):
        process.kill()


def crash(returncode: int, served: bool = False) -> int | None:
    """The status that Windows ended a program with, None if it ended by itself.

    Who ends a program chooses its status. One that `served` does not end with such a number by itself.
    """
    code = returncode & 0xFFFFFFFF
    if code >= ERROR or code in (BREAKPOINT, KILLED, ABORTED):
        return code
    return KILLED if served and code in CHOSEN else None


def crash_name(number: int) -> str:
    """`an access violation (0xC0000005)`."""
    name = NAMES.get(number)
    if number in (KILLED, ABORTED, CTRL_C) and name:
        return name
    return f"{name} (0x{number:08X})" if name else f"error 0x{number:08X}"


def dump_no_memory(pid: int) -> None:
    """Windows writes no memory of a program that ended, unless it is set up to."""


def activity(pid: int) -> list[bytes]:
    """Page faults and processor time so far; of no process, none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [repr((process.cpu_times()[:2], process.memory_info().num_page_faults)).encode()]
    except psutil.Error:
        return []


class Hearing:
    """Pipes that other programs write to: a thread for each, which closes it at its end."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Callable[[bytes], object] | None, bytes]] = queue.SimpleQueue()
        self._open = 0

    def add(self, pipe: IO[Any], take: Callable[[bytes], object]) -> None:
        """Have `take` called with what comes, in the thread that hears."""
        self._open += 1
        threading.Thread(target=self._read, args=(pipe, take), name="hearing", daemon=True).start()

    @property
    def open(self) -> bool:
        """Something may still come."""
        return self._open > 0

    def hear(self, timeout: float | None) -> bool:
        """Pass on what comes within `timeout` seconds (None: however long it takes); False when there was nothing."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if end is None else min(LONGEST_WAIT or 0.0, max(0.0, end - time.monotonic()))
            try:
                take, data = self._queue.get(timeout=left)
                break
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    return False
        if take is None:
            self._open -= 1
        else:
            take(data)
        return True

    def drain(self) -> None:
        """Pass on what ended programs have left."""
        while self.open and self.hear(LAST_SECONDS):
            pass

    def close(self) -> None:
        """Hear no more. The threads end with the programs that they listen to."""
        self._open = 0

    def _read(self, pipe: IO[Any], take: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(pipe.fileno(), PIECE):
                self._queue.put((take, data))
        self._queue.put((None, b""))
        with contextlib.suppress(OSError):
            pipe.close()
