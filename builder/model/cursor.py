"""Reads little-endian values from an open file and refuses to go beyond its end; knows no format."""

import struct
from typing import IO, Any

LONGEST_STRING = 16 << 20  # no key, name, template or token comes near this
LONGEST_HEADER = 256 << 20


class Damaged(Exception):
    """The bytes make no sense; the text says which, as the end of a sentence."""


class Cursor:
    """A position in a file of `size` bytes."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises Damaged at the end of the file."""
        self._require(count)
        data = self._file.read(count)
        if len(data) != count:
            raise Damaged("it became shorter while it was read")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        """Go on by `count` bytes."""
        self._require(count)
        self._file.seek(count, 1)
        self.at += count

    def value(self, form: struct.Struct) -> Any:
        """The next value of that form."""
        return form.unpack(self.take(form.size))[0]

    def string(self) -> bytes:
        """The next string: its length in 8 bytes, then its bytes."""
        return self.take(self._length())

    def skip_string(self) -> None:
        """Go on behind the next string."""
        self.take(self._length())

    def _length(self) -> int:
        length: int = self.value(U64)
        if length > LONGEST_STRING:
            raise Damaged(f"at offset {self.at - 8} it has a string of {length} bytes")
        return length

    def _require(self, count: int) -> None:
        if count > self._size - self.at:
            raise Damaged(f"it ends after {self._size} bytes, in the middle of its header")
        if self.at + count > LONGEST_HEADER:
            raise Damaged(f"its header claims to be longer than {LONGEST_HEADER >> 20} MiB")


U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
