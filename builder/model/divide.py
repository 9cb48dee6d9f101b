"""Divides one GGUF into several files, as llama.cpp splits models: at the boundaries of tensors, each with a header.

The data of a part is a stretch of the model's, unchanged and in the model's order: behind the model's own header the
data of all parts are the model again, bit for bit.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkllm.builder.errors import TooLarge
from mkllm.builder.model.cursor import U32, U64, Cursor
from mkllm.builder.model.gguf import ALIGNMENT_KEY, BUFFER, MAGIC, Gguf, Tensor, parse
from mkllm.builder.model.split import COUNT, NUMBER, SPLIT_KEYS, TENSORS, info
from mkllm.builder.model.weights import Stamp, Weights
from mkllm.builder.progress import size

MAX_PARTS = 999
UINT16, INT32 = 2, 5


@dataclass(frozen=True)
class Part:
    """One file: `header`, then the bytes of the model from `start` to `end`."""

    header: bytes
    start: int
    end: int

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return len(self.header) + self.end - self.start


@dataclass(frozen=True)
class Division:
    """The files of a model; what is in none of them is its first `header` bytes, 0 where there is but one file."""

    header: int
    parts: tuple[Part, ...]


def undivided(weights: Weights) -> Division:
    """The model in one file, as it is."""
    return Division(0, (Part(b"", 0, weights.size),))


def divide(weights: Weights, path: Path, most: int) -> Division:
    """The model in as few files of at most `most` bytes as can be. Raises TooLarge; `path` is what it names."""
    whole = header_of(weights, path)
    starts = [whole.data + tensor.offset for tensor in whole.tensors]
    ends = [*starts[1:], weights.size]
    groups = _groups(weights, whole, [end - start for start, end in zip(starts, ends, strict=True)], most)
    parts, first = [], 0
    for number, count in enumerate(groups):
        tensors = whole.tensors[first : first + count]
        header = _header(weights, whole, tensors, number, len(groups))
        parts.append(Part(header, starts[first], ends[first + count - 1]))
        first += count
    return Division(whole.data, tuple(parts))


def header_of(weights: Weights, path: Path) -> Gguf:
    """The header of weights that were found to be a model already, as they lie in one file."""
    stream = io.BufferedReader(_Stream(weights), BUFFER)
    return parse(Cursor(stream, weights.size), path, Stamp(0, 0, weights.size, 0))


def _groups(weights: Weights, whole: Gguf, sizes: Sequence[int], most: int) -> list[int]:
    """How many tensors each file gets: one after the other, as many as fit."""
    groups: list[int] = []
    room = 0
    for tensor, data in zip(whole.tensors, sizes, strict=True):
        needed = data + len(info(tensor))
        if needed > room or not groups:
            room = most - len(_header(weights, whole, (), len(groups), 0)) - whole.alignment
            groups.append(0)
        if needed > room:
            name = tensor.name.decode(errors="replace")
            raise TooLarge(
                f"{str(whole.path)!r} cannot be divided into files of {size(most)}: its tensor {name!r} alone takes "
                f"{size(needed)}; allow larger files with --max-file-size"
            )
        room -= needed
        groups[-1] += 1
    if len(groups) > MAX_PARTS:
        raise TooLarge(
            f"{str(whole.path)!r} would be {len(groups)} files of {size(most)}: allow larger ones with --max-file-size"
        )
    return groups


def _header(weights: Weights, whole: Gguf, tensors: Sequence[Tensor], number: int, count: int) -> bytes:
    """All that the model says of itself in the first file, and in the others only what it takes to read them."""
    kept = [
        weights.read(key.start, key.end - key.start)
        for name, key in whole.keys.items()
        if name not in SPLIT_KEYS and (number == 0 or name == ALIGNMENT_KEY)
    ]
    kept += [
        _key(NUMBER, UINT16, "<H", number),
        _key(COUNT, UINT16, "<H", count),
        _key(TENSORS, INT32, "<i", len(whole.tensors)),
    ]
    first = tensors[0].offset if tensors else 0
    head = MAGIC + struct.pack("<IQQ", whole.version, len(tensors), len(kept)) + b"".join(kept)
    head += b"".join(info(replace(tensor, offset=tensor.offset - first)) for tensor in tensors)
    return head + bytes(-len(head) % whole.alignment)


def _key(name: str, kind: int, form: str, value: int) -> bytes:
    return U64.pack(len(name)) + name.encode() + U32.pack(kind) + struct.pack(form, value)


class _Stream(io.RawIOBase):
    """Weights as a file to read from."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else self._weights.size if whence == io.SEEK_END else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._weights.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
