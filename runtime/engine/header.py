"""Reads a few key/values from the header of a GGUF, stopping as soon as it has them; checks no tensor.

The format is that of ggml's docs/gguf.md: magic, version, two counts, then typed key/values, little endian.
"""

import struct
from collections.abc import Collection
from typing import IO

Value = int | float | bool | str | list[int]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY = 4096
_LONGEST_SKIP = 1 << 32


class HeaderError(ValueError):
    """The bytes are not the header of a GGUF that this reader knows."""


def read_header(file: IO[bytes], wanted: Collection[str]) -> dict[str, Value]:
    """The `wanted` keys that are there; lists only of integers. Raises HeaderError for anything but a GGUF."""
    if file.read(4) != b"GGUF" or _number(file, "I") not in (2, 3):
        raise HeaderError("not a little-endian GGUF of version 2 or 3")
    _number(file, "Q")
    found: dict[str, Value] = {}
    for _ in range(_number(file, "Q")):
        key = _string(file)
        value = _value(file, _number(file, "I"), key in wanted)
        if value is not None:
            found[key] = value
            if len(found) == len(wanted):
                break
    return found


def _value(file: IO[bytes], kind: int, keep: bool) -> Value | None:
    if kind == _ARRAY:
        return _array(file, keep)
    if kind == _STRING:
        text = _string(file)
        return text if keep else None
    number: Value = _unpack(file, _scalar(kind))
    return number if keep else None


def _array(file: IO[bytes], keep: bool) -> Value | None:
    """Integers are returned when wanted; everything else is passed over."""
    kind, count = _number(file, "I"), _number(file, "Q")
    if kind == _STRING:
        for _ in range(count):
            _skip(file, _number(file, "Q"))
        return None
    code = _scalar(kind)
    if not keep or count > _LONGEST_ARRAY or code in "fd?":
        _skip(file, count * struct.calcsize(code))
        return None
    return [_unpack(file, code) for _ in range(count)]


def _skip(file: IO[bytes], size: int) -> None:
    if size > _LONGEST_SKIP:
        raise HeaderError("an array is too long")
    file.seek(size, 1)


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise HeaderError(f"unknown type {kind}")
    return _SCALARS[kind]


def _string(file: IO[bytes]) -> str:
    length = _number(file, "Q")
    if length > 1 << 24:
        raise HeaderError("a string is too long")
    data = file.read(length)
    if len(data) != length:
        raise HeaderError("the header is cut off")
    return data.decode("utf-8", "replace")


def _number(file: IO[bytes], code: str) -> int:
    return int(_unpack(file, code))


def _unpack(file: IO[bytes], code: str) -> int:
    size = struct.calcsize("<" + code)
    data = file.read(size)
    if len(data) != size:
        raise HeaderError("the header is cut off")
    value: int = struct.unpack("<" + code, data)[0]
    return value
