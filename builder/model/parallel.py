"""Reads a large remote file over several connections, and hands its bytes on in order; knows no hub and no disk.

What is handed on is always the beginning of the file: an interrupted download goes on from there, and it is hashed on
the way. Each connection is given a block at a time, which is kept in memory until its turn comes.
"""

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from mkllm.builder.model.passing import Passing

CONNECTIONS = 4
BLOCK = 16 << 20  # bytes
LEAST = 4 * BLOCK  # less is not worth several connections

Opened = contextlib.AbstractContextManager[tuple[int, Iterator[bytes]]]


class Open(Protocol):
    """Opens a remote file at `start`, for reading up to `end`."""

    def __call__(self, start: int, end: int | None = None, /) -> Opened: ...


class NoParts(Exception):
    """The server gives whole files alone."""


def receive(open_at: Open, start: int, end: int, take: Callable[[bytes], None]) -> None:
    """Give `take` the bytes from `start` to `end`, in order. Raises Passing when a connection gave nothing, NoParts."""
    stop = threading.Event()
    blocks = iter(range(start, end, BLOCK))
    pool = ThreadPoolExecutor(CONNECTIONS, "download")
    try:
        waiting = deque(pool.submit(_block, open_at, at, min(at + BLOCK, end), stop) for at in _first(blocks))
        while waiting:
            take(waiting.popleft().result())
            waiting.extend(
                pool.submit(_block, open_at, at, min(at + BLOCK, end), stop) for at in itertools.islice(blocks, 1)
            )
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _first(blocks: Iterator[int]) -> Iterator[int]:
    return itertools.islice(blocks, CONNECTIONS)


def _block(open_at: Open, start: int, end: int, stop: threading.Event) -> bytes:
    """Those bytes; a connection that is cut after some of them is opened again for the rest."""
    data = bytearray()
    while len(data) < end - start and not stop.is_set():
        before = len(data)
        with open_at(start + before, end) as (at, chunks):
            if at != start + before:
                raise NoParts
            for chunk in chunks:
                data += chunk[: end - start - len(data)]
                if len(data) == end - start or stop.is_set():
                    break
        if len(data) == before and not stop.is_set():
            raise Passing("a connection was cut before anything came")
    return bytes(data)
