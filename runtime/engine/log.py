"""The engine's own words: the last lines are kept, a file and the terminal may have all; knows no process."""

import copy
import errno
import re
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mkllm.runtime.errors import NoSpace, PermissionFailure
from mkllm.runtime.platform.files import native

KEPT_LINES = 200
LONGEST_LINE = 8192
RECENT_LINES = 20
PREFIX = re.compile(r"[\d.]+ E ")
OWN = "mkllm-engine: "  # what the shim says, in words for people
TROUBLE = ("error", "fail", "invalid", "unknown", "cannot", "unable", "assert", "terminate called", "what():")


@dataclass(frozen=True)
class Logging:
    """Where the engine's own words go beside memory."""

    file: Path | None = None
    verbose: bool = False


class Log:
    """Collects what the engine prints. One thread writes; any thread reads. A failure to write is no failure."""

    def __init__(self, logging: Logging = Logging()) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._rest = b""
        self._sink = _Sink(logging)

    def another(self) -> "Log":
        """For one more engine: lines of its own, the same file."""
        log = copy.copy(self)
        log._lines, log._rest = deque(maxlen=KEPT_LINES), b""
        return log

    def feed(self, data: bytes) -> None:
        """Take what was read from the engine, cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._keep(line.decode("utf-8", "replace").rstrip("\r"))

    def begin(self, title: str) -> None:
        """A new engine starts: what follows is its own."""
        if self._rest:
            self.feed(b"\n")
        self._lines.clear()
        self._sink.write(f"# {title}")

    def tail(self, count: int) -> list[str]:
        """The last lines of this engine, without empty ones."""
        return [line for line in [*self._lines, self._rest.decode("utf-8", "replace")] if line.strip()][-count:]

    def has(self, words: str) -> bool:
        """Whether this engine has said so, in one of the lines that are kept."""
        return any(words in line for line in self.tail(KEPT_LINES))

    def trouble(self, starting: bool) -> str:
        """The line that most likely says what went wrong.

        While the engine starts one error leads to the next, so the first is the cause; later it is the last one, if it
        is not long ago. Where nothing sounds like trouble it is the last line.
        """
        lines = self.tail(KEPT_LINES if starting else RECENT_LINES)
        own = [line for line in lines if line.startswith(OWN)] if starting else []
        marked = own or ([line for line in lines if PREFIX.match(line)] if starting else [])
        sounding = marked or [line for line in lines if any(word in line.lower() for word in TROUBLE)]
        line = (sounding[0] if starting else sounding[-1]) if sounding else (lines or [""])[-1]
        return " ".join(PREFIX.sub("", line).split())

    def close(self) -> None:
        """Close the file, if there is one."""
        self._sink.close()

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        self._sink.write(line)


class _Sink:
    """Where the words of all engines of a launch go: a file, and standard error."""

    def __init__(self, logging: Logging) -> None:
        self._verbose = logging.verbose
        self._name = str(logging.file)
        self._file: IO[str] | None = _open(logging.file) if logging.file else None

    def write(self, line: str) -> None:
        """What cannot be written to is given up, and the other one is told: nothing of this may harm the engine."""
        if self._file and (why := _print(line, self._file)):
            self.close()
            note = f"note: the log file {self._name!r} can no longer be written ({why}): it is not continued"
            _print(note, sys.stderr)
        if self._verbose and (why := _print(line, sys.stderr)):
            self._verbose = False
            self.write(f"# standard error can no longer be written ({why})")

    def close(self) -> None:
        file, self._file = self._file, None
        with suppress(OSError):  # what it still holds cannot be written either
            if file:
                file.close()


def _print(line: str, file: IO[str]) -> str | None:
    """Why it failed, None when it did not."""
    try:
        print(line, file=file, flush=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _open(file: Path) -> IO[str]:
    try:
        return open(native(file), "a", encoding="utf-8")
    except OSError as error:
        kind = NoSpace if error.errno == errno.ENOSPC else PermissionFailure
        raise kind(f"the log file {str(file)!r} cannot be written ({error.strerror}): choose another one") from None
