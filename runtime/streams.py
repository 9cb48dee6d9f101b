"""The standard streams: there even if they were closed, and with a failure of their own."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from mkllm.runtime.errors import OutputFailure
from mkllm.runtime.platform.terminal import READER_GONE, UNDECODABLE

MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}  # in the order of their descriptors


class Stdout(io.TextIOWrapper):
    """Standard output. When it cannot be written it raises OutputFailure; an OSError could be about any file."""

    def write(self, text: str) -> int:
        with _translated():
            return super().write(text)

    def flush(self) -> None:
        with _translated():
            super().flush()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in READER_GONE:
            raise BrokenPipeError(error.errno, error.strerror) from error
        reason = (error.strerror or "?").lower()
        raise OutputFailure(f"the output cannot be written ({reason}): send it somewhere else") from error


def prepare() -> None:
    """Open what is closed (`mkllm … >&-`) on nothing, so that no other file gets its descriptor.

    A path with bytes that are not UTF-8 will be printed as it is.
    """
    for name, mode in MODES.items():
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: that of this stream
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, closefd=False))
    if type(old := sys.stdout) is io.TextIOWrapper:
        encoding, by_line, at_once = old.encoding, old.line_buffering, old.write_through
        sys.stdout = Stdout(old.detach(), encoding, UNDECODABLE, None, by_line, at_once)


def write_utf8(text: str) -> None:
    """Write at once, in UTF-8 whatever the locale says: for what programs read, and texts of all languages."""
    with _translated():
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()


def drop_output() -> None:
    """What is still to be written, at the latest when the program ends, has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
