"""Ctrl-C, and what else ends a program, while the front serves: the first asks for an end, the second ends at once."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mkllm.runtime.platform.terminal import ending
from mkllm.runtime.signals import heeded

SAME_SECONDS = 0.4
DRAINED = 64  # bytes


class Stop:
    """From its creation on, signals no longer raise: they set `asked` and call what `when_asked` was given. Those that
    this process was started to ignore stay ignored.

    The second signal ends the process where it stands. The engine follows, because its lifeline ends with it. One that
    comes with the first is the same: who stops a group of processes reaches this one directly and by its guardian.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._wake: Callable[[], object] | None = None
        for number in heeded():
            signal.signal(number, self._take)

    def when_asked(self, wake: Callable[[], object]) -> None:
        """Have `wake` called, from the main thread, when the end is asked for: now, if it has been."""
        self._wake = wake
        if self.asked:
            wake()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked:
            if now - self._since < SAME_SECONDS:
                return
            sys.stderr.flush()
            os._exit(128 + ending(number))
        self.asked, self._since = True, now
        if self._wake:
            self._wake()


@contextmanager
def woken(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """In the block every signal wakes the event loop: the interpreter heeds one only when it runs, and it may come a
    moment before the loop waits for something else, or to another thread."""
    descriptor = signal.set_wakeup_fd(-1)
    if descriptor >= 0:  # the loop's own, on Windows; where it takes no more the loop is awake already
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        yield
        return
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        loop.add_reader(reading, reading.recv, DRAINED)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            loop.remove_reader(reading)
