"""Sends to the disk what was written, while more is written: the sync at the end then finds little left to do."""

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

EVERY = 8 << 20
SYNC_FILE_RANGE_WRITE = 2  # start, do not wait (sync_file_range(2))


class Writeback:
    """Asks the kernel to begin with each stretch of a file that is whole; a wish, whose failure the sync will tell."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._start = self._end = 0
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[object] | None = None
        self._begin = _sync_file_range()

    def written(self, at: int, size: int) -> None:
        """`size` bytes at offset `at` were written."""
        if at != self._end:
            self._start = at
        self._end = at + size
        is_idle = self._last is None or self._last.done()
        if self._begin and is_idle and self._end - self._start >= EVERY:
            length = self._end - self._start
            self._last = self._thread.submit(self._begin, self._target, self._start, length, SYNC_FILE_RANGE_WRITE)
            self._start = self._end

    def close(self) -> None:
        """Wait until no request is under way."""
        self._thread.shutdown()


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """The C library's, where it has one; the frozen runtime of Linux has no ctypes, and extracts without."""
    if sys.platform == "win32":
        return None
    try:
        from ctypes import CDLL, c_int, c_int64, c_uint
    except ImportError:
        return None
    found = getattr(CDLL(None), "sync_file_range", None)
    if found:
        found.argtypes = [c_int, c_int64, c_int64, c_uint]
    return found
