"""Programs that are started from here, on POSIX systems."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

assert sys.platform != "win32"

SEPARATOR = ":"  # between the files of MKLLM_BACKENDS
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
KILLED, ILLEGAL, UNREADABLE = int(signal.SIGKILL), int(signal.SIGILL), int(signal.SIGBUS)
LONGEST_WAIT: float | None = None  # a signal comes through any wait
PIECE = 65536
DUMPED = "0x10"  # core(5), coredump_filter: the headers of its files, none of its memory


def start(
    words: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str], **streams: Any
) -> "subprocess.Popen[Any]":
    """Start a program in a process group of its own. It inherits these descriptors and its standard `streams`."""
    return subprocess.Popen(words, env=environment, pass_fds=descriptors, process_group=0, **streams)


def number(descriptor: int) -> int:
    """What a program that inherits it knows this descriptor by."""
    return descriptor


def ask_to_end(process: "subprocess.Popen[Any]", lifeline: IO[bytes]) -> None:
    """Have it end in its own way."""
    process.send_signal(signal.SIGTERM)


def kill(process: "subprocess.Popen[Any]") -> None:
    """End it, with all that it started, as it stands."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def crash(returncode: int, served: bool = False) -> int | None:
    """The signal by which a program ended, None if it ended by itself."""
    return -returncode if returncode < 0 else None


def crash_name(number: int) -> str:
    """`SIGSEGV`, or `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def dump_no_memory(pid: int) -> None:
    """Gigabytes that are written to the disk after a crash, where core dumps are on, would hold up the next start."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/coredump_filter", "w") as file:
        file.write(DUMPED)


def activity(pid: int) -> list[bytes]:
    """Page faults and processor time so far (proc(5): minflt to cstime); of no process, none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[7:15]
    except OSError:
        return []


class Hearing:
    """Pipes that other programs write to. They are closed with it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._pipes: list[IO[Any]] = []

    def add(self, pipe: IO[Any], take: Callable[[bytes], object]) -> None:
        """Have `take` called with what comes, in the thread that hears."""
        self._pipes.append(pipe)
        self._selector.register(pipe.fileno(), selectors.EVENT_READ, take)

    @property
    def open(self) -> bool:
        """Something may still come."""
        return bool(self._selector.get_map())

    def hear(self, timeout: float | None) -> bool:
        """Pass on what comes within `timeout` seconds (None: however long it takes); False when there was nothing."""
        events = self._selector.select(timeout)
        for key, _ in events:
            data = os.read(key.fd, PIECE)
            if data:
                key.data(data)
            else:
                self._selector.unregister(key.fd)
        return bool(events)

    def drain(self) -> None:
        """Pass on what ended programs have left."""
        while self.open and self.hear(0):
            pass

    def close(self) -> None:
        """Hear no more."""
        self._selector.close()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
