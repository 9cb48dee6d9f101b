"""The header of a safetensors file, compared with the file's length; reads no weights.

A file: length of the header (8 bytes, little-endian), the header as JSON, the tensors' bytes without gaps.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.errors import DamagedCheckpoint, PermissionFailure

MAX_HEADER = 100_000_000  # the format's own limit
LARGEST = 1 << 63
METADATA = "__metadata__"
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor: `size` in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


def entries(path: Path) -> dict[str, Entry]:
    """The tensors of a file by name. Raises DamagedCheckpoint or PermissionFailure."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            count = int.from_bytes(file.read(8), "little")
            if length < 8 or count > min(length - 8, MAX_HEADER):
                raise damaged(path, f"it has {length} bytes, too few for the header that it begins with")
            header = json.loads(file.read(count))
    except (ValueError, RecursionError):
        raise damaged(path, "its header is not JSON") from None
    except PermissionError:
        raise forbidden(path) from None
    except OSError as error:
        raise damaged(path, f"it cannot be read ({(error.strerror or '?').lower()})") from None
    return _checked(path, header, length - 8 - count)


def _checked(path: Path, header: Any, room: int) -> dict[str, Entry]:
    try:
        described: Mapping[str, Any] = {name: value for name, value in header.items() if name != METADATA}
        found = {name: _entry(value) for name, value in described.items()}
        end = max((value["data_offsets"][1] for value in described.values()), default=0)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise damaged(path, "its header does not describe tensors") from None
    if end != room:
        raise damaged(path, f"its tensors have {end} bytes by its header, but {room} follow")
    for name, entry in found.items():
        if entry.dtype in BITS and entry.size * 8 != math.prod(entry.shape) * BITS[entry.dtype]:
            raise damaged(path, f"its tensor {name!r:.80} has {entry.size} bytes for {list(entry.shape)} {entry.dtype}")
    return found


def _entry(value: Mapping[str, Any]) -> Entry:
    start, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(type(number) is int and 0 <= number < LARGEST for number in (start, end, *shape)) or start > end:
        raise ValueError
    return Entry(str(value["dtype"]), shape, end - start)


def damaged(path: Path, why: str) -> DamagedCheckpoint:
    """The failure to raise for a file that is not whole."""
    return DamagedCheckpoint(f"{str(path)!r} is damaged or truncated: {why}; copy or download it again")


def forbidden(path: Path) -> PermissionFailure:
    """The failure to raise for a file that may not be read."""
    return PermissionFailure(f"{str(path)!r} may not be read: check its permissions")
