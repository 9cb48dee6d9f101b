"""How far long work on bytes has come, for a person: on a terminal a line with rate and time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Self

from mkllm.runtime.amounts import size
from mkllm.runtime.ansi import rewritten

INTERVAL = 0.1


class _Line:
    """The last line of a terminal, written over and over; it is on `stream` (standard error) and is gone at the end.

    What is no terminal is shown nothing.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def write(self, text: str) -> None:
        """`text` instead of what is there, as much of it as one line holds."""
        if self._shown:
            self._stream.write(rewritten(text, self._stream))
            self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write("")


class Progress(_Line):
    """Counts bytes of `total`."""

    def __init__(self, title: str, total: int, stream: IO[str] | None = None) -> None:
        super().__init__(stream)
        self._title, self._total = title, total
        self._done = 0
        self._started = time.monotonic()
        self._next = self._started + INTERVAL

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        self._done += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            self.write(self.line(now))

    def line(self, now: float) -> str:
        """`verifying 42 %  1.2 GB/s  3 s left`."""
        rate = self._done / max(now - self._started, 1e-6)
        left = (self._total - self._done) / rate if rate else 0.0
        return f"{self._title} {100 * self._done // max(self._total, 1)} %  {size(int(rate))}/s  {left:.0f} s left"


class Steps(_Line):
    """Counts the `total` steps of work whose steps are unlike; a terminal shows which one is done, and what is left."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__(stream)
        self.total = 0
        self._begun = 0
        self._started = time.monotonic()

    def begin(self, text: str) -> None:
        """The next step begins."""
        self._begun += 1
        self.write(self.line(text, time.monotonic()))

    def line(self, text: str, now: float) -> str:
        """`3 of 12: reading  8 s left`; how long it takes is not known before two steps are done."""
        done = self._begun - 1
        left = (now - self._started) / done * (self.total - done) if done > 1 else 0.0
        return f"{self._begun} of {self.total}: {text}" + (f"  {left:.0f} s left" if left else "")


@contextmanager
def waiting(text: str, stream: IO[str] | None = None) -> Iterator[None]:
    """While the block takes its time, a terminal says what for."""
    with _Line(stream) as line:
        line.write(text)
        yield
