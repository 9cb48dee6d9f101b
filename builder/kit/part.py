"""A part of a kit: built once from pinned inputs, kept under the hash of those inputs; knows no part by name."""

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from mkllm.builder.errors import NoSpace, ToolFailed

VERSION = "version "  # inputs whose names begin so are shown among the kit's versions


class Report(Protocol):
    """What a part tells of its progress while it is built."""

    @property
    def log(self) -> IO[str]:
        """The log file; pass it to `process.run`."""

    def step(self, text: str) -> None:
        """Say what is being done now."""

    def progress(self, fraction: float) -> None:
        """Say how much of this part is done, 0 to 1."""


@dataclass(frozen=True)
class Part:
    """`inputs` names everything that the result depends on: versions, hashes, options. `build(work, out, report)` fills
    the empty folder `out`; `work` is kept between attempts, so that compiled objects are not compiled again.
    `weight` is its share of the whole build in seconds on two cores. `target` is the name of the system that it is for,
    None for all of them; `needs` are parts that are whole before it is built, but of the kit only if they are named."""

    name: str
    inputs: Mapping[str, str]
    build: Callable[[Path, Path, Report], None]
    weight: float
    target: str | None = None
    needs: "tuple[Part, ...]" = ()

    @property
    def folder(self) -> str:
        """What its folders' names begin with: those for different systems are compiled apart."""
        return f"{self.name}-{self.target}" if self.target else self.name

    @property
    def key(self) -> str:
        """16 hex digits that change with any input."""
        text = json.dumps([self.name, sorted(self.inputs.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def assembling(what: str) -> Iterator[None]:
    """What the disk refuses meanwhile is a sentence. Raises NoSpace for a full one, else ToolFailed."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(
                f"no space left while writing {error.filename!r}: free some and run the command again"
            ) from None
        raise ToolFailed(f"{what} cannot be put together: {error}") from None


def digest(paths: Sequence[Path], root: Path) -> str:
    """SHA-256 over names (relative to `root`) and contents of files, for a part's `inputs`."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()
