"""Copies a range of one file into another and hashes it on the way; knows neither zip nor artifact."""

import errno
import os
from collections.abc import Callable

from mkllm.runtime.artifact.digest import CHUNK, Digest

# copy_file_range does not serve between these two files: other file systems, old kernels, special files
UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO}


class SourceFailure(Exception):
    """The file that is copied cannot be read, or is shorter than it was; the text says which."""


class Copier:
    """Copies into one open file. The kernel copies (and shares blocks where the file system can) as long as it agrees;
    else the bytes that were read for hashing are written."""

    def __init__(self, target: int, digest: Digest, progress: Callable[[int], None]) -> None:
        self._target = target
        self._digest = digest
        self._progress = progress
        self._by_kernel = hasattr(os, "copy_file_range")

    def copy(self, source: int, offset: int, size: int, at: int) -> None:
        """Copy `size` bytes from `offset` of the open file `source` to `at`. Raises SourceFailure."""
        done = 0
        while done < size:
            buffer = self._digest.buffer()
            view = memoryview(buffer)[: min(CHUNK, size - done)]
            count = _read(source, view, offset + done)
            self._digest.update(buffer, count)
            self._place(source, offset + done, view[:count], at + done)
            self._progress(count)
            done += count

    def move(self, source: int, offset: int, size: int, at: int) -> None:
        """The same without hashing, so without reading where the kernel copies. Raises SourceFailure."""
        done = 0
        while done < size:
            count = min(CHUNK, size - done)
            moved = self._kernel_copy(source, offset + done, count, at + done) if self._by_kernel else 0
            if moved < count:
                view = memoryview(bytearray(count - moved))
                view = view[: _read(source, view, offset + done + moved)]
                write_at(self._target, view, at + done + moved)
                moved += len(view)
            self._progress(moved)
            done += moved

    def write(self, data: bytes, at: int) -> None:
        """Write and hash bytes from memory."""
        for start in range(0, len(data), CHUNK):
            buffer = self._digest.buffer()
            piece = data[start : start + CHUNK]
            buffer[: len(piece)] = piece
            self._digest.update(buffer, len(piece))
        write_at(self._target, data, at)
        self._progress(len(data))

    def _place(self, source: int, offset: int, view: memoryview, at: int) -> None:
        done = self._kernel_copy(source, offset, len(view), at) if self._by_kernel else 0
        if done < len(view):
            write_at(self._target, view[done:], at + done)

    def _kernel_copy(self, source: int, offset: int, size: int, at: int) -> int:
        """The number of bytes that the kernel copied; if not all, it is not asked again."""
        done = 0
        try:
            while done < size and (
                count := os.copy_file_range(source, self._target, size - done, offset + done, at + done)
            ):
                done += count
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        self._by_kernel = done == size
        return done


def _read(source: int, view: memoryview, offset: int) -> int:
    try:
        count = os.preadv(source, [view], offset)
    except OSError as error:
        raise SourceFailure(f"could not be read ({os.strerror(error.errno or errno.EIO).lower()})") from error
    if not count:
        raise SourceFailure("became shorter while it was read")
    return count


def write_at(target: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at offset `at`."""
    view = memoryview(data)
    while view:
        count = os.pwrite(target, view, at)
        view, at = view[count:], at + count
