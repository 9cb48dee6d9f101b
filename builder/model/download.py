"""Downloads one file to a known hash: goes on where an earlier attempt ended, retries what may pass; knows no hub."""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from mkllm.builder.errors import HubFailure, WrongHash
from mkllm.builder.model import parallel
from mkllm.builder.model.passing import Passing
from mkllm.builder.model.promise import hasher
from mkllm.builder.progress import Advance, Output, size
from mkllm.builder.space import check_free
from mkllm.runtime.artifact.draft import failure

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds; doubled before each further attempt
CHUNK = 1 << 20

SUFFIX = ".mkllm-incomplete"

T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A file to download. `digest` is its SHA-256 (64 hex digits), git's SHA-1 of it (40), or empty: none is known.

    `open(start, end)` is a context that gives the offset at which the answer begins, and its chunks; `end` is None for
    all that follows, and may be ignored. It raises Passing, and is called in several threads.
    """

    name: str
    size: int
    digest: str
    open: parallel.Open


def download(remote: Remote, target: Path, output: Output, elsewhere: str) -> None:
    """Write the file to `target`, which appears only when it is whole and has the hash.

    What an interrupted download leaves is kept beside it for the next. `elsewhere` says how another disk is chosen.
    Raises HubFailure, WrongHash or NoSpace.
    """
    partial = target.with_name(f"{target.name}{SUFFIX}")
    try:
        with partial.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process that downloads the same file is waited for
            if target.exists():
                partial.unlink(missing_ok=True)
                return
            check_space([remote], target.parent, elsewhere, target.name)
            _fetch(remote, file, partial, output)
            os.replace(partial, target)
    except OSError as error:
        raise failure(error, target) from error


def attempt(action: Callable[[], T], output: Output, done: Callable[[], int] = lambda: 0) -> T:
    """The result of `action`, which is repeated with growing pauses while it raises Passing.

    An attempt that got further than all before, as `done()` tells, does not count.
    """
    furthest, tries = done(), 0
    while True:
        try:
            return action()
        except Passing as error:
            now = done()
            tries = tries + 1 if now <= furthest else 1
            furthest = max(now, furthest)
            if tries >= ATTEMPTS:
                raise HubFailure(f"{error}, {ATTEMPTS} times in a row: run the command again later") from error
            pause = FIRST_PAUSE * 2 ** (tries - 1)
            output.note(f"{error}; trying again in {pause:g} s")
            time.sleep(pause)


def check_space(remotes: Sequence[Remote], folder: Path, elsewhere: str, name: str | None = None) -> None:
    """Raise NoSpace when what is still missing of all these files has no room in `folder`, which may not exist yet.

    They are to be called by their hashes, or `name`. `elsewhere` says how another disk is chosen.
    """
    missing = sum(max(0, remote.size - _size(folder / f"{name or remote.digest}{SUFFIX}")) for remote in remotes)
    check_free(folder, missing, f"{remotes[0].name!r} in {str(folder)!r}", elsewhere)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(remote: Remote, file: IO[bytes], partial: Path, output: Output) -> None:
    receiver = _Receiver(remote, file)
    resumed = receiver.done > 0
    if receiver.done > remote.size:
        receiver.restart()
    with output.task(f"downloading {remote.name}", remote.size, receiver.done) as advance:
        receiver.advance = advance
        attempt(receiver.receive, output, lambda: receiver.done)
        if resumed and not receiver.is_right():  # what was left from before may be what is wrong
            receiver.restart()
            attempt(receiver.receive, output, lambda: receiver.done)
    if not receiver.is_right():
        found = receiver.found()
        receiver.restart()
        partial.unlink()
        raise WrongHash(
            f"the download of {remote.name!r} has the hash {found}, the hub promises {remote.digest}: "
            "run the command again; if it happens again, what the hub has is damaged"
        )


class _Receiver:
    """The partial file and the hash of what is in it; `done` is its length."""

    def __init__(self, remote: Remote, file: IO[bytes]) -> None:
        self._remote, self._file = remote, file
        self.advance: Advance = lambda count: None
        self.done = 0
        self._alone = False  # whether the server is known to give no parts
        self._hash = hasher(remote.digest, remote.size)
        file.seek(0)
        while block := file.read(CHUNK):
            self._hash.update(block)
            self.done += len(block)

    def receive(self) -> None:
        """Ask for what is missing and take what comes. Raises Passing when something is still missing."""
        missing = self._remote.size - self.done
        if missing >= parallel.LEAST and not self._alone:
            try:
                parallel.receive(self._remote.open, self.done, self._remote.size, self._take)
            except parallel.NoParts:
                self._alone = True
        if self.done < self._remote.size:
            self._receive_alone()

    def _receive_alone(self) -> None:
        with self._remote.open(self.done, None) as (start, chunks):
            if start != self.done:
                self.restart()
            for chunk in chunks:
                self._take(chunk[: self._remote.size - self.done])
                if self.done == self._remote.size:
                    break
        if self.done < self._remote.size:
            raise Passing(f"the connection was cut after {size(self.done)} of {size(self._remote.size)}")

    def restart(self) -> None:
        """Throw away what is there."""
        self.advance(-self.done)
        self._file.truncate(0)
        self.done = 0
        self._hash = hasher(self._remote.digest, self._remote.size)

    def is_right(self) -> bool:
        """Whether everything is there and has the right hash."""
        return self.done == self._remote.size and self._remote.digest in ("", self.found())

    def found(self) -> str:
        """The hash of what is there."""
        return self._hash.hexdigest()

    def _take(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self.done += len(chunk)
        self.advance(len(chunk))
