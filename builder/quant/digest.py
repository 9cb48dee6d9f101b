"""The SHA-256 of weights, read once for each state of their files; knows no format."""

import os

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model import digests
from mkllm.builder.model.weights import Span, Weights
from mkllm.builder.progress import Advance, Output
from mkllm.runtime.artifact.digest import CHUNK, Digest


def sha256_of(weights: Weights, title: str, output: Output) -> str:
    """Hex digits; read now, with progress, unless that is known from before. Raises UnusableModel."""
    if hashed := digests.known(weights):
        return hashed[0]
    with Digest() as digest, output.task(title, weights.size) as advance:
        for segment in weights.segments:
            if isinstance(segment, Span):
                _read(segment, digest, advance)
            else:
                _add(segment, digest)
        sha256, crc = digest.finish()
    digests.remember(weights, sha256, crc)
    return sha256


def _read(span: Span, digest: Digest, advance: Advance) -> None:
    descriptor = span.open()
    try:
        if not digest.read(descriptor, span.offset, span.size, advance):
            raise UnusableModel(f"the model file {str(span.path)!r} became shorter: check it and its disk")
        span.check(descriptor)
    finally:
        os.close(descriptor)


def _add(data: bytes, digest: Digest) -> None:
    for start in range(0, len(data), CHUNK):
        piece = data[start : start + CHUNK]
        buffer = digest.buffer()
        buffer[: len(piece)] = piece
        digest.update(buffer, len(piece))
