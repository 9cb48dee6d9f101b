"""SHA-256 and CRC-32 of a stream in one pass, each in a thread of its own; knows no file."""

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from mkllm.runtime.platform.files import read_into

try:
    from isal.isal_zlib import crc32  # four times as quick; mkllm has it, an artifact does without
except ImportError:
    from zlib import crc32

CHUNK = 1 << 20
BUFFERS = 8


class Digest:
    """Hashes what was put into the buffers that it lends out; the caller goes on reading and writing meanwhile.

    Memory is at most BUFFERS * CHUNK bytes, whatever the length of the stream. Both hashes let other threads run.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._busy: deque[tuple[bytearray, Future[None], Future[None]]] = deque()
        self._sha_thread = ThreadPoolExecutor(1)
        self._crc_thread = ThreadPoolExecutor(1)
        self._sha = hashlib.sha256()
        self._crc = 0

    def buffer(self) -> bytearray:
        """A buffer of CHUNK bytes to fill; waits for the oldest one while all are being hashed."""
        if self._free:
            return self._free.pop()
        if len(self._busy) < BUFFERS:
            return bytearray(CHUNK)
        buffer, *work = self._busy.popleft()
        for item in work:
            item.result()
        return buffer

    def update(self, buffer: bytearray, size: int) -> None:
        """Hash the first `size` bytes of a buffer from `buffer()`. It may still be read, but not be written to."""
        view = memoryview(buffer)[:size]
        sha = self._sha_thread.submit(self._sha.update, view)
        crc = self._crc_thread.submit(self._add_crc, view)
        self._busy.append((buffer, sha, crc))

    def add(self, data: bytes) -> None:
        """Hash bytes from memory."""
        for start in range(0, len(data), CHUNK):
            buffer = self.buffer()
            piece = data[start : start + CHUNK]
            buffer[: len(piece)] = piece
            self.update(buffer, len(piece))

    def read(self, descriptor: int, at: int, size: int, progress: Callable[[int], None]) -> bool:
        """Hash `size` bytes from offset `at` of an open file; `progress` is told how many at a time.

        False when the file is shorter: then what it has was hashed.
        """
        end = at + size
        while at < end:
            buffer = self.buffer()
            count = read_into(descriptor, memoryview(buffer)[: min(CHUNK, end - at)], at)
            if not count:
                return False
            self.update(buffer, count)
            progress(count)
            at += count
        return True

    def finish(self) -> tuple[str, int]:
        """SHA-256 (hex) and CRC-32 of everything since the start or the last `finish`."""
        while self._busy:
            buffer, *work = self._busy.popleft()
            for item in work:
                item.result()
            self._free.append(buffer)
        result = self._sha.hexdigest(), self._crc
        self._sha, self._crc = hashlib.sha256(), 0
        return result

    def _add_crc(self, view: memoryview) -> None:
        self._crc = crc32(view, self._crc)

    def __enter__(self) -> "Digest":
        return self

    def __exit__(self, *_: object) -> None:
        self._sha_thread.shutdown(cancel_futures=True)
        self._crc_thread.shutdown(cancel_futures=True)
