"""Signals as exceptions: those that end a program raise `Terminated`, as SIGINT raises KeyboardInterrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from mkllm.runtime.platform.terminal import ENDING, ending, prepare


class Terminated(BaseException):
    """This process was asked to end by `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


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
    came: list[int] = []
    with ExitStack() as after:
        after.callback(_raise_again, came)
        for number in heeded():
            after.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, lambda number, frame: came.append(number))
        yield


def _raise_again(numbers: list[int]) -> None:
    for number in numbers[:1]:
        signal.raise_signal(number)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(ending(number))
