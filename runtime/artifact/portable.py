"""What a signature (Authenticode) changes of a Windows program, which is a PE file; knows nothing of who signed.

A signing tool puts the table of certificates behind the end of the file, padded to a multiple of 8, and into the header
its place and a new checksum. Everything here is the same for other programs, which have none of it.
"""

import struct
from dataclasses import dataclass

HEAD = 4096  # bytes; what is looked at lies within them
STEP = 8
_DOS = b"MZ"
_PE = b"PE\0\0"
_OPTIONAL = 24  # of the optional header, behind the four letters
_CHECKSUM = 64  # in the optional header
_DIRECTORIES = {0x10B: 96, 0x20B: 112}  # in the optional header, by its kind
_CERTIFICATES = 4  # the directory of that number
_ENTRY = struct.Struct("<II")


@dataclass(frozen=True)
class Places:
    """Where in the header the checksum is, and the entry of the table of certificates."""

    checksum: int
    entry: int


def places(head: bytes) -> Places | None:
    """Of a PE file, from its first bytes; None for any other."""
    if not head.startswith(_DOS) or len(head) < 64:
        return None
    start = int.from_bytes(head[60:64], "little")
    optional = start + _OPTIONAL
    if head[start : start + 4] != _PE or len(head) < optional + 2:
        return None
    directories = _DIRECTORIES.get(int.from_bytes(head[optional : optional + 2], "little"))
    if directories is None or len(head) < optional + directories + (_CERTIFICATES + 1) * _ENTRY.size:
        return None
    return Places(optional + _CHECKSUM, optional + directories + _CERTIFICATES * _ENTRY.size)


def table(head: bytes) -> tuple[int, int] | None:
    """Offset and size of the table of certificates; None where there is none."""
    found = places(head)
    offset, size = _ENTRY.unpack_from(head, found.entry) if found else (0, 0)
    return (offset, size) if offset or size else None


def uncounted(data: bytes) -> bytes:
    """The bytes of a bootloader with what a signature changes as zeros."""
    found = places(data[:HEAD])
    if not found:
        return data
    changed = bytearray(data)
    changed[found.checksum : found.checksum + 4] = bytes(4)
    changed[found.entry : found.entry + _ENTRY.size] = bytes(_ENTRY.size)
    return bytes(changed)
