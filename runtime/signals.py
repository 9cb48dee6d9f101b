"""Signals as exceptions: those that end a program raise `Terminated`, as SIGINT raises KeyboardInterrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from mkllm.runtime.platform.terminal import ENDING, ending, prepare

Kind = TypeVar("Kind", bound=BaseException)


class Terminated(BaseException):
    """This process was asked to end by `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def cause_of(error: BaseException, kind: type[Kind]) -> Kind | None:
    """The exception of that kind that `error` was made of: until Python 3.12 the interpreter gives what interrupts the
    making of a class, during an import for one, as a RuntimeError."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__
    return None


def heeded() -> list[signal.Signals]:
    """Those that may end this process: not one that it was started to ignore, by nohup or in a script's background."""
    return [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]


def raise_on_termination() -> None:
    """From now on they raise Terminated in the main thread, unless they are ignored."""
    prepare()
    for number in heeded():
        if number != signal.SIGINT:
            signal.signal(number, _raise)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """No signal interrupts the block: for cleaning up, which takes seconds at most."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end the program come after the block; they only ever come to the main thread.

    Blocked in one thread, another one would take them, and this one be interrupted all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    holding = _Holding()
    try:
        yield
    finally:
        holding.end()


class _Holding:
    """Keeps signals back until `end`: from its beginning on they do what they did before."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._over = False
        self._before = {number: signal.getsignal(number) for number in heeded()}
        for number in self._before:
            signal.signal(number, self._take)

    def end(self) -> None:
        """Let one that came do its work."""
        self._over = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for came in self._came[:1]:
            signal.raise_signal(came)

    def _take(self, number: int, frame: FrameType | None) -> None:
        before = self._before[signal.Signals(number)]
        if not self._over:
            self._came.append(number)
        elif callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            signal.raise_signal(number)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(ending(number))
