"""The bytes of a model as ranges of files and of memory, in order; knows nothing of what they mean."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import UnusableModel


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written to or replaced."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """The stamp of a file from its `stat`."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Span:
    """`size` bytes of a file from `offset`; `stamp` is that of the file when it was looked at."""

    path: Path
    offset: int
    size: int
    stamp: Stamp

    def open(self) -> int:
        """A descriptor of the file. Raises UnusableModel when it is gone or is not what was looked at."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UnusableModel(f"{str(self.path)!r} cannot be read any more ({error.strerror})") from None
        self.check(descriptor)
        return descriptor

    def check(self, descriptor: int) -> None:
        """Raise UnusableModel when the open file has changed since it was looked at."""
        if Stamp.of(os.fstat(descriptor)) != self.stamp:
            raise UnusableModel(
                f"{str(self.path)!r} was changed while it was read: build again when nothing writes to it"
            )


@dataclass(frozen=True)
class Weights:
    """The content of model.gguf."""

    segments: tuple[Span | bytes, ...]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(_size(segment) for segment in self.segments)

    @property
    def files(self) -> set[Path]:
        """The files that are read."""
        return {segment.path for segment in self.segments if isinstance(segment, Span)}

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; for looking at small pieces."""
        return b"".join(self._pieces(offset, offset + size))

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        at = 0
        for segment in self.segments:
            first, last = max(start - at, 0), min(end - at, _size(segment))
            if first < last:
                yield segment[first:last] if isinstance(segment, bytes) else _pread(segment, first, last)
            at += _size(segment)


def _size(segment: Span | bytes) -> int:
    return len(segment) if isinstance(segment, bytes) else segment.size


def _pread(span: Span, first: int, last: int) -> bytes:
    descriptor = span.open()
    try:
        return os.pread(descriptor, last - first, span.offset + first)
    finally:
        os.close(descriptor)
