"""Copies a range of one file into another and hashes it on the way; knows neither zip nor artifact."""

import errno
import os
import sys
from collections.abc import Callable

from mkllm.runtime.artifact.digest import CHUNK, Digest
from mkllm.runtime.artifact.writeback import Writeback
from mkllm.runtime.platform.files import read_into, share, write_from

# copy_file_range does not serve between these two files: other file systems, old kernels, special files
UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO}


class SourceFailure(Exception):
    """The file that is copied cannot be read, or is shorter than it was; the text says which."""


class Copier:
    """Copies into one open file. Blocks are shared where the file system can. What is hashed has to be read, and is
    then written from where it was read to; what is not, the kernel copies as long as it agrees."""

    def __init__(self, target: int, digest: Digest, progress: Callable[[int], None]) -> None:
        self._target = target
        self._digest = digest
        self._progress = progress
        self._by_kernel = hasattr(os, "copy_file_range")
        self._writeback = Writeback(target)

    def __enter__(self) -> "Copier":
        return self

    def __exit__(self, *_: object) -> None:
        self._writeback.close()

    def copy(self, source: int, offset: int, size: int, at: int) -> None:
        """Copy `size` bytes from `offset` of the open file `source` to `at`. Raises SourceFailure."""
        shared, done = share(source, offset, size, self._target, at), 0
        while done < size:
            buffer = self._digest.buffer()
            view = memoryview(buffer)[: min(CHUNK, size - done)]
            count = _read(source, view, offset + done)
            self._digest.update(buffer, count)
            there = min(max(0, shared - done), count)
            write_at(self._target, view[there:count], at + done + there)
            self._written(at + done, count)
            done += count

    def move(self, source: int, offset: int, size: int, at: int) -> None:
        """The same without hashing, so without reading where the kernel copies. Raises SourceFailure."""
        done = share(source, offset, size, self._target, at)
        self._progress(done)
        while done < size:
            count = min(CHUNK, size - done)
            moved = self._kernel_copy(source, offset + done, count, at + done) if self._by_kernel else 0
            if moved < count:
                view = memoryview(bytearray(count - moved))
                view = view[: _read(source, view, offset + done + moved)]
                write_at(self._target, view, at + done + moved)
                moved += len(view)
            self._written(at + done, moved)
            done += moved

    def write(self, data: bytes, at: int) -> None:
        """Write and hash bytes from memory."""
        self._digest.add(data)
        self.put(data, at)

    def put(self, data: bytes, at: int = 0) -> None:
        """Write bytes from memory, without hashing them."""
        write_at(self._target, data, at)
        self._written(at, len(data))

    def _written(self, at: int, size: int) -> None:
        self._writeback.written(at, size)
        self._progress(size)

    def _kernel_copy(self, source: int, offset: int, size: int, at: int) -> int:
        """The number of bytes that the kernel copied; if not all, it is not asked again."""
        if sys.platform != "linux":
            return 0
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
        count = read_into(source, view, offset)
    except OSError as error:
        raise SourceFailure(f"could not be read ({os.strerror(error.errno or errno.EIO).lower()})") from error
    if not count:
        raise SourceFailure("became shorter while it was read")
    return count


def write_at(target: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at offset `at`."""
    view = memoryview(data)
    while view:
        count = write_from(target, view, at)
        view, at = view[count:], at + count
