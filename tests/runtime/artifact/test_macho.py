"""Mach-O headers and signatures that are small, damaged, or near the limit."""

import bisect
import hashlib
import struct
from pathlib import Path

import pytest

from mkllm.runtime.artifact import macho


def segment(name: bytes, address: int, memory: int, offset: int, size: int) -> bytes:
    return struct.pack("<II16sQQQQIIII", 0x19, 72, name, address, memory, offset, size, 1, 1, 0, 0)


def program(**changes: int) -> bytes:
    """A header as the linker's, with two segments, symbols and a signature; 64 KiB in all."""
    commands = [
        segment(b"__TEXT", 1 << 32, 0x4000, 0, 0x4000),
        segment(b"__LINKEDIT", (1 << 32) + 0x4000, 0xC000, 0x4000, 0xC000),
        struct.pack("<6I", 0x2, 24, 0x4000, 1, 0x5000, 0x9000),
        struct.pack("<4I", 0x1D, 16, 0xE000, 0x2000),
    ]
    left = commands[: changes.get("commands", 4)]
    size = sum(map(len, left)) + changes.get("more", 0)
    header = struct.pack("<8I", macho.MAGIC, changes.get("cpu", macho.ARM64), 0, 2, len(left), size, 0, 0)
    return (header + b"".join(left)).ljust(0x10000, b"\x11")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is too short"),
        (b"\x7fELF" + bytes(100), "it is no 64-bit program for arm64"),
        (program(cpu=0x01000007), "it is no 64-bit program for arm64"),
        (program()[:100], "it is too short"),
        (program(commands=3), "it has no signature"),
        (program(commands=2), "it has no signature"),
        (program(more=-8), "its load commands make no sense"),
    ],
)
def test_what_is_no_such_program_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(macho.NotMachO, match=f"^{sentence}$"):
        macho.parse(data)


def test_only_lengths_and_the_signature_s_place_are_changed() -> None:
    before, after = program(), macho.grown(program(), 0x123450, 0x150001)
    places = {"memory": (136, 8, 0x150000), "length": (152, 8, 0x14C001), "strings": (196, 4, 0x123450 - 0x5000)}
    places |= {"signature": (208, 4, 0x123450), "size": (212, 4, 0x150001 - 0x123450)}
    expected = bytearray(before)
    for at, size, value in places.values():
        expected[at : at + size] = value.to_bytes(size, "little")
    assert after == bytes(expected)
    assert macho.parse(after).signature == (0x123450, 0x150001 - 0x123450)


def test_the_last_page_may_be_short(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # 78 pages and a bit, more than one chunk
    path = tmp_path / "file"
    path.write_bytes(data + b"behind")
    told: list[int] = []
    with path.open("rb") as file:
        hashes = macho.page_hashes(file.fileno(), len(data), told.append)
        with pytest.raises(macho.NotMachO, match="^it became shorter while it was read$"):
            macho.page_hashes(file.fileno(), len(data) + 7)
    pages = [data[at : at + 16384] for at in range(0, len(data), 16384)]
    assert hashes == b"".join(hashlib.sha256(page).digest() for page in pages) and sum(told) == len(data)
    signature = macho.signature(hashes, len(data), 0x4000)
    assert len(signature) == macho.signature_size(len(data)) and signature.endswith(hashes)
    assert struct.unpack(">I", signature[4:8]) == (len(signature),)


def test_what_ends_below_4_gib_is_signed() -> None:
    """Its size counts with the signature (one byte for every 512) and with what is behind it."""
    small = macho.signed_range(100_001, 5000)
    assert small == (100_016, 100_016 + 352)  # 12 + 8 + 88 + 6 + 7 pages of 32 bytes = 338
    assert macho.signed_range(1 << 32, 0) is None
    most = bisect.bisect_left(range(1 << 32), True, key=lambda end: macho.signed_range(end, 5000) is None) - 1
    found = macho.signed_range(most, 5000)
    assert found and most <= found[0] and macho.signed_range(most + 16, 5000) is None
    assert found[1] + 5000 < 1 << 32 <= found[1] + 5000 + 16 + 32
