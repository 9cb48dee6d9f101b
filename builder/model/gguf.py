"""Reads the header of a GGUF file, as strictly as the engine does; judges neither model nor architecture.

The layout is that of ggml's gguf.h: magic, version, counts, keys with values, tensor descriptions, aligned data.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mkllm.builder.errors import ModelNotFound, PermissionFailure, UnusableModel
from mkllm.builder.model.cursor import U32, U64, Cursor, Damaged
from mkllm.builder.model.foreign import describe
from mkllm.builder.model.tables import TensorType, tables
from mkllm.builder.model.weights import Stamp

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_STRINGS = 1 << 22  # in one array; the largest vocabularies have 2**18 tokens
MAX_KEPT = 1 << 12  # integers in an array that is kept, such as one for each layer
MAX_TENSOR_NAME = 63
MAX_DIMENSIONS = 4
BUFFER = 1 << 20

SCALARS = {number: struct.Struct("<" + form) for number, form in enumerate("BbHhIif?")} | {
    number: struct.Struct("<" + form) for number, form in ((10, "Q"), (11, "q"), (12, "d"))
}
INTEGERS = frozenset((0, 1, 2, 3, 4, 5, 10, 11))
STRING, ARRAY = 8, 9

Value = int | float | bool | str | tuple[int, ...]


@dataclass(frozen=True)
class Key:
    """A key and its value: None for an array that is long or not of integers. Its bytes lie from `start` to `end`."""

    value: Value | None
    kind: int
    start: int
    end: int


@dataclass(frozen=True)
class Tensor:
    """A tensor: `offset` of its data from the start of the data section, `size` in bytes."""

    name: bytes
    shape: tuple[int, ...]
    number: int
    offset: int

    @property
    def type(self) -> TensorType:
        return tables().types[self.number]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        return self.elements // self.type.block * self.type.size


@dataclass(frozen=True)
class Gguf:
    """The header of a file: `data` is the offset of the data section, `size` the length of the whole file."""

    path: Path
    stamp: Stamp
    version: int
    keys: dict[str, Key]
    tensors: tuple[Tensor, ...]
    data: int
    alignment: int

    @property
    def size(self) -> int:
        return self.stamp.size

    def text(self, key: str) -> str | None:
        """The value of a key that holds a string."""
        found = self.keys.get(key)
        return found.value if found and isinstance(found.value, str) else None

    def integer(self, key: str) -> int | None:
        """The value of a key that holds an integer."""
        found = self.keys.get(key)
        return found.value if found and type(found.value) is int else None

    def integers(self, key: str) -> tuple[int, ...]:
        """The value of a key that holds a short array of integers; empty if it does not."""
        found = self.keys.get(key)
        return found.value if found and isinstance(found.value, tuple) else ()


def read_gguf(path: Path) -> Gguf:
    """The header of the GGUF file `path`, every tensor's range checked against the length of the file.

    Raises ModelNotFound, PermissionFailure, or UnusableModel saying what is wrong with it.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        try:
            return parse(Cursor(file, status.st_size), path, Stamp.of(status))
        except Damaged as error:
            hint = "copy or download it again"
            raise UnusableModel(f"{str(path)!r} is a damaged or truncated GGUF file: {error}; {hint}") from None
        except OSError as error:
            raise UnusableModel(
                f"{str(path)!r} cannot be read: {(error.strerror or '?').lower()}; check its disk"
            ) from None


def _open(path: Path) -> IO[bytes]:
    try:
        if not path.is_file() and path.exists():
            raise UnusableModel(f"{str(path)!r} is not a file: name a GGUF file")
        return path.open("rb", buffering=BUFFER)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFound(f"there is no file {str(path)!r}: check the name") from None
    except PermissionError:
        raise PermissionFailure(f"{str(path)!r} may not be read: check its permissions") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise ModelNotFound(f"the file {str(path)!r} cannot be opened: {reason}; check the name") from None


def parse(cursor: Cursor, path: Path, stamp: Stamp) -> Gguf:
    """The header that begins at the cursor. Raises Damaged or UnusableModel."""
    version = _version(cursor, path, stamp.size)
    tensor_count, key_count = cursor.value(U64), cursor.value(U64)
    if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
        raise Damaged(f"it claims to have {tensor_count} tensors and {key_count} keys")
    keys = _keys(cursor, key_count)
    alignment = _alignment(keys)
    tensors = tuple(_tensor(cursor) for _ in range(tensor_count))
    data = -(-cursor.at // alignment) * alignment
    _check_ranges(tensors, data, alignment, stamp.size)
    return Gguf(path, stamp, version, keys, tensors, data, alignment)


def _version(cursor: Cursor, path: Path, size: int) -> int:
    magic = cursor.take(min(4, size))
    if magic != MAGIC:
        raise UnusableModel(f"{str(path)!r} is not a GGUF file: {describe(path)}")
    version: int = cursor.value(U32)
    if version & 0xFFFF == 0 and version:
        raise UnusableModel(f"{str(path)!r} is big-endian: download or convert the little-endian version of this model")
    if version not in VERSIONS:
        hint = "convert it again" if version < VERSIONS[0] else "use a newer mkllm"
        raise UnusableModel(f"{str(path)!r} is GGUF version {version}, the engine reads versions 2 and 3: {hint}")
    return version


def _keys(cursor: Cursor, count: int) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for _ in range(count):
        start = cursor.at
        try:
            name = cursor.string().decode()
        except UnicodeDecodeError:
            raise Damaged(f"its key at offset {start} is not text") from None
        if not name or name in keys:
            raise Damaged(f"its key {name!r:.80} at offset {start} is empty or there twice")
        kind: int = cursor.value(U32)
        keys[name] = Key(_value(cursor, kind, name), kind, start, cursor.at)
    return keys


def _value(cursor: Cursor, kind: int, name: str) -> Value | None:
    if kind in SCALARS:
        scalar: Value = cursor.value(SCALARS[kind])
        return scalar
    if kind == STRING:
        return cursor.string().decode(errors="replace")
    if kind != ARRAY:
        raise Damaged(f"its key {name!r:.80} has the unknown type {kind}")
    return _array(cursor, name)


def _array(cursor: Cursor, name: str) -> tuple[int, ...] | None:
    kind, count = cursor.value(U32), cursor.value(U64)
    if kind in INTEGERS and count <= MAX_KEPT:
        return tuple(cursor.value(SCALARS[kind]) for _ in range(count))
    if kind in SCALARS:
        cursor.skip(count * SCALARS[kind].size)
    elif kind != STRING:
        raise Damaged(f"its key {name!r:.80} is an array of the type {kind}, which the engine does not read")
    elif count > MAX_STRINGS:
        raise Damaged(f"its key {name!r:.80} claims to hold {count} strings")
    else:
        for _ in range(count):
            cursor.skip_string()
    return None


def _alignment(keys: dict[str, Key]) -> int:
    if ALIGNMENT_KEY not in keys:
        return DEFAULT_ALIGNMENT
    key = keys[ALIGNMENT_KEY]
    value = key.value if key.kind == 4 and isinstance(key.value, int) else 0
    if value <= 0 or value & (value - 1) or value > BUFFER:
        raise Damaged(f"its {ALIGNMENT_KEY} is {key.value!r:.20}, not a power of two")
    return value


def _tensor(cursor: Cursor) -> Tensor:
    name = cursor.string()
    if len(name) > MAX_TENSOR_NAME:
        raise Damaged(f"a tensor's name has {len(name)} bytes")
    dimensions = cursor.value(U32)
    if dimensions > MAX_DIMENSIONS:
        raise Damaged(f"its tensor {_shown(name)} has {dimensions} dimensions")
    shape = tuple(cursor.value(U64) for _ in range(dimensions))
    number: int = cursor.value(U32)
    tensor = Tensor(name, shape, number, cursor.value(U64))
    if number not in tables().types:
        raise Damaged(f"its tensor {_shown(name)} has the unknown type {number}")
    if tensor.elements >= 1 << 63 or (shape[0] if shape else 1) % tensor.type.block:
        raise Damaged(f"its tensor {_shown(name)} has the impossible shape {list(shape)} for {tensor.type.name}")
    return tensor


def _check_ranges(tensors: tuple[Tensor, ...], data: int, alignment: int, size: int) -> None:
    """Each tensor must start where the one before ends, padded, and end inside the file; no name may be there twice."""
    expected, names = 0, set()
    for tensor in tensors:
        if tensor.name in names:
            raise Damaged(f"its tensor {_shown(tensor.name)} is there twice")
        names.add(tensor.name)
        if tensor.offset != expected:
            raise Damaged(f"its tensor {_shown(tensor.name)} lies at {tensor.offset}, not at {expected}")
        if data + tensor.offset + tensor.size > size:
            end = data + tensor.offset + tensor.size
            raise Damaged(f"its tensor {_shown(tensor.name)} ends at byte {end}, but the file has {size}")
        expected += -(-tensor.size // alignment) * alignment


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace"))
