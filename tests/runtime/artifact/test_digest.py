"""Both hashes of a stream are right, however it is cut, while buffers are reused."""

import hashlib
import random
import threading
import zlib

from mkllm.runtime.artifact.digest import BUFFERS, CHUNK, Digest


def test_streams_are_hashed_in_order() -> None:
    data = random.Random(1).randbytes(CHUNK // 2)
    expected, crc = hashlib.sha256(), 0
    lent: set[int] = set()
    with Digest() as digest:
        for number in range(4 * BUFFERS):
            size = (number * 7919) % len(data)
            buffer = digest.buffer()
            lent.add(id(buffer))
            buffer[:size] = data[:size]
            digest.update(buffer, size)
            expected.update(data[:size])
            crc = zlib.crc32(data[:size], crc)
        assert digest.finish() == (expected.hexdigest(), crc)
        assert digest.finish() == (hashlib.sha256().hexdigest(), 0)
    assert len(lent) <= BUFFERS


def test_its_threads_end() -> None:
    before = threading.active_count()
    with Digest() as digest:
        digest.update(digest.buffer(), CHUNK)
    assert threading.active_count() == before
