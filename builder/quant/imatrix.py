"""Importance matrices as files: llama.cpp's GGUF ones are written and read, its older .dat ones read."""

import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model.cursor import U32, U64
from mkllm.builder.model.gguf import DEFAULT_ALIGNMENT, MAGIC, Gguf, Tensor, read_gguf

KIND, DATASETS, CHUNKS, CHUNK_SIZE = "general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
SUMS, COUNTS = b".in_sum2", b".counts"
UINT32, STRING, ARRAY = 4, 8, 9
F32, FLOAT = 0, 4
MAX_ENTRIES, MAX_NAME = 1 << 18, 1 << 10

# Sums of squares, as anything of floats, and how many rows each matrix of a weight was fed.
Matrix = Mapping[str, tuple[Any, Sequence[int]]]


def write(path: Path, matrix: Matrix, chunks: int, chunk: int, dataset: str) -> None:
    """Write sums of squares and counts by weight, as llama-imatrix does; the same matrix gives the same bytes."""
    keys = [
        _text(KIND) + U32.pack(STRING) + _text("imatrix"),
        _text(DATASETS) + U32.pack(ARRAY) + U32.pack(STRING) + U64.pack(1) + _text(dataset),
        _text(CHUNKS) + U32.pack(UINT32) + U32.pack(chunks),
        _text(CHUNK_SIZE) + U32.pack(UINT32) + U32.pack(chunk),
    ]
    infos, data = [], bytearray()
    for name in sorted(matrix):
        sums, counts = matrix[name]
        for ending, numbers in ((SUMS, sums), (COUNTS, counts)):
            shape = (len(numbers) // len(counts), len(counts))
            place = U32.pack(len(shape)) + b"".join(U64.pack(length) for length in shape)
            infos.append(_text(name.encode() + ending) + place + U32.pack(F32) + U64.pack(len(data)))
            data += array("f", numbers).tobytes()
            data += bytes(-len(data) % DEFAULT_ALIGNMENT)
    head = MAGIC + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join((*keys, *infos))
    path.write_bytes(head + bytes(-len(head) % DEFAULT_ALIGNMENT) + data)


def read(path: Path) -> dict[str, "array[float]"]:
    """By weight the mean of the squares of each column, matrix by matrix. Raises UnusableModel."""
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    entries = _from_gguf(read_gguf(path)) if magic == MAGIC else _from_dat(path)
    for name, values in entries.items():
        if not all(map(math.isfinite, values)):
            raise _unusable(path, f"the numbers of {name!r:.80} are not finite")
    return entries


def _from_gguf(header: Gguf) -> dict[str, "array[float]"]:
    path, tensors = header.path, {tensor.name: tensor for tensor in header.tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    if not names or header.text(KIND) not in (None, "imatrix"):
        raise _unusable(path, "it is a GGUF file of something else")
    found = {}
    with path.open("rb") as file:
        for name in names:
            sums, counts = (_floats(file, header, tensors.get(name + ending)) for ending in (SUMS, COUNTS))
            if not sums or not counts or len(sums) % len(counts):
                raise _unusable(path, f"what it says of {name.decode(errors='replace')!r} does not fit together")
            found[name.decode(errors="replace")] = _means(sums, counts)
    return found


def _floats(file: Any, header: Gguf, tensor: Tensor | None) -> "array[float]":
    numbers = array("f")
    if tensor and tensor.number == F32:
        file.seek(header.data + tensor.offset)
        numbers.frombytes(file.read(tensor.size))
    return numbers


def _means(sums: "array[float]", counts: "array[float]") -> "array[float]":
    """A matrix that was never fed counts all its columns alike, as in llama-quantize."""
    width = len(sums) // len(counts)
    found = array("f")
    for number, count in enumerate(counts):
        part = sums[number * width : (number + 1) * width]
        found.extend(array("f", [value / count for value in part] if count > 0 else [1.0] * width))
    return found


def _from_dat(path: Path) -> dict[str, "array[float]"]:
    data, found, at = path.read_bytes(), {}, 4
    try:
        (entries,) = struct.unpack_from("<i", data, 0)
        if not 0 < entries <= MAX_ENTRIES:
            raise ValueError
        for _ in range(entries):
            (length,) = struct.unpack_from("<i", data, at)
            name = data[at + 4 : at + 4 + length].decode()
            calls, count = struct.unpack_from("<ii", data, at + 4 + length)
            at += 12 + length
            values = array("f", struct.unpack_from(f"<{count}f", data, at))
            at += FLOAT * count
            if not 0 < length <= MAX_NAME or not count:
                raise ValueError
            found[name] = array("f", [value / calls for value in values]) if calls > 0 else values
    except (struct.error, ValueError, UnicodeDecodeError):
        raise _unusable(path, "it is neither llama.cpp's GGUF nor its .dat format") from None
    return found


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return U64.pack(len(data)) + data


def _unusable(path: Path, why: str) -> UnusableModel:
    return UnusableModel(f"{str(path)!r} is no importance matrix ({why}): name a text, or what llama-imatrix wrote")
