"""A model's bytes on their way from its files into all that they are written to; knows no kit and no format."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model import digests
from mkllm.builder.model.weights import Span, Weights
from mkllm.runtime.artifact.copy import Copier, SourceFailure
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.manifest import WEIGHTS

STEP = 64 << 20  # what is read for one file is still in memory when it is copied for the next


@dataclass(frozen=True)
class Content:
    """The bytes that are stored as the model: as which member, and the SHA-256 of the plain ones."""

    name: str
    size: int
    sha256: str
    crc: int
    origin: str


@dataclass(frozen=True)
class Stretch:
    """Bytes of the model from `start` to `end` go to the file of `copier`, from `at` on."""

    copier: Copier
    start: int
    end: int
    at: int


class Stream:
    """The model's bytes on their way from its files into all that they are written to, hashed once."""

    def __init__(self, weights: Weights, digest: Digest, sinks: Sequence[Sequence[Stretch]]) -> None:
        self._weights = weights
        self._digest = digest
        self._stretches = [stretch for sink in sinks for stretch in sink]
        self._several = len(self._stretches) > 1
        self._hashed = digests.known(weights)

    def run(self) -> Content:
        at = 0
        for segment in self._weights.segments:
            size = len(segment) if isinstance(segment, bytes) else segment.size
            if isinstance(segment, bytes):
                for first, last in self._pieces(at, size):
                    self._bytes(segment[first - at : last - at], first)
            else:
                self._span(segment, at)
            at += size
        sha256, crc = self._digest.finish()
        if self._hashed:
            sha256, crc = self._hashed
        else:
            digests.remember(self._weights, sha256, crc)
        return Content(WEIGHTS, at, sha256, crc, sha256)

    def _pieces(self, at: int, size: int) -> Iterator[tuple[int, int]]:
        """The bytes from `at` on, in pieces that go to the same files; not too large ones if these are several."""
        end, cuts = at + size, {edge for stretch in self._stretches for edge in (stretch.start, stretch.end)}
        while at < end:
            stop = min((cut for cut in cuts if at < cut < end), default=end)
            stop = min(stop, at + STEP) if self._several else stop
            yield at, stop
            at = stop

    def _takers(self, at: int) -> list[Stretch]:
        return [stretch for stretch in self._stretches if stretch.start <= at < stretch.end]

    def _bytes(self, data: bytes, at: int) -> None:
        if not self._hashed:
            self._digest.add(data)
        for taker in self._takers(at):
            taker.copier.put(data, taker.at + at - taker.start)

    def _span(self, span: Span, at: int) -> None:
        with _closing(span.open()) as source:
            for first, last in self._pieces(at, span.size):
                try:
                    self._piece(source, span.offset + first - at, first, last)
                except SourceFailure as error:
                    raise UnusableModel(f"the model file {str(span.path)!r} {error}: check it and its disk") from None
            span.check(source)

    def _piece(self, source: int, offset: int, first: int, last: int) -> None:
        takers = self._takers(first)
        if not takers and not self._hashed and not self._digest.read(source, offset, last - first, lambda done: None):
            raise SourceFailure("became shorter while it was read")
        for number, taker in enumerate(takers):
            copy = taker.copier.move if number or self._hashed else taker.copier.copy
            copy(source, offset, last - first, taker.at + first - taker.start)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
