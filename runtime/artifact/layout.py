"""The bytes of an artifact that follow from its parts (spec/artifact.md): headers, padding, directory, end record.

Writer, reader and verify all use these functions, so there is one definition of every byte; knows no file.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import FORMAT, PREPACKED, WEIGHTS
from mkllm.runtime.errors import NotAnArtifact

ENGINE = "native/mkllm-engine"
MACOS = "macos-arm64"
BLOCK = 4096
FIRST_HEADER = 64
COMMENT_SIZE = 128
END_SIZE = 56 + 20 + 22 + COMMENT_SIZE
MAX_NAME = 255
MAX_MEMBERS = 65534
MAX_DIRECTORY = MAX_MEMBERS * (46 + MAX_NAME + 28)

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_LOCAL_EXTRA = struct.Struct("<HHQQ")
_PADDING = struct.Struct("<HH")
_RECORD = struct.Struct("<IHHHHHHIIIHHHHHII")
_RECORD_EXTRA = struct.Struct("<HHQQQ")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_END = struct.Struct("<IHHHHIIH")

_NEEDED = 45
_MADE_BY = 3 << 8 | _NEEDED
_UTF8 = 1 << 11
_DATE = 1 << 5 | 1
_ALL32 = 0xFFFFFFFF
_ALL16 = 0xFFFF
_ZIP64 = 0x0001
_MK = 0x6D6B
_FIXED_HEADER = _LOCAL.size + _LOCAL_EXTRA.size + _PADDING.size


@dataclass(frozen=True)
class Place:
    """Where one member lies: `start` of its local header and `data`, from the start of the file; `size` in bytes."""

    name: str
    size: int
    start: int

    @property
    def data(self) -> int:
        """Offset of the first byte of the member itself."""
        return align(self.start + _FIXED_HEADER + len(self.name.encode()), alignment(self.name))

    @property
    def end(self) -> int:
        """Offset behind the member's last byte."""
        return self.data + self.size


@dataclass(frozen=True)
class Entry:
    """A placed member and the CRC-32 of its bytes."""

    place: Place
    crc: int


@dataclass(frozen=True)
class Comment:
    """What the last 128 bytes of the file say."""

    kit: str
    pkg_crc: int
    manifest_sha256: str
    directory_crc: int

    def to_bytes(self) -> bytes:
        """The comment as it is written."""
        text = (
            f"mkllm/{FORMAT} kit={self.kit} pkg={self.pkg_crc:08x} manifest={self.manifest_sha256}"
            f" cd={self.directory_crc:08x}\n"
        )
        return text.encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Comment":
        """Parse the last 128 bytes of a file. Raises NotAnArtifact when they are no such comment."""
        _refuse_newer(data)
        try:
            head, kit, pkg, manifest, directory = data.decode("ascii").split(" ")
            comment = cls(kit[4:], int(pkg[4:], 16), manifest[9:], int(directory[3:], 16))
            if head == f"mkllm/{FORMAT}" and is_hex(comment.manifest_sha256, 64) and comment.to_bytes() == data:
                return comment
        except ValueError:
            pass
        raise NotAnArtifact("it does not end as an artifact does: it is no artifact, or it is truncated or damaged")


def _refuse_newer(data: bytes) -> None:
    version = data[6 : data.find(b" ")] if data.startswith(b"mkllm/") else b""
    if version.isdigit() and len(version) < 9 and int(version) > FORMAT:
        raise NotAnArtifact(f"it has format {int(version)}, this program reads up to {FORMAT}: use a newer mkllm")


def is_hex(text: str, digits: int) -> bool:
    """Whether `text` is that many lower-case hexadecimal digits."""
    return len(text) == digits and set(text) <= set("0123456789abcdef")


def align(offset: int, step: int) -> int:
    """The next multiple of `step` at or behind `offset`."""
    return -(-offset // step) * step


def alignment(name: str) -> int:
    """The multiple at which the bytes of a member start."""
    if name in (WEIGHTS, PREPACKED):
        return 65536
    return BLOCK if name.startswith("native/") else 64


def place(bootloader_size: int, members: Iterable[tuple[str, int]]) -> list[Place]:
    """Where each of `members` (name and size in bytes, in file order) lies behind a bootloader of that size."""
    places: list[Place] = []
    start = align(bootloader_size, FIRST_HEADER)
    for name, size in members:
        places.append(Place(name, size, start))
        start = places[-1].end
    return places


def pkg_offset(places: Sequence[Place]) -> int:
    """Where the PKG starts behind these members."""
    return align(places[-1].end, BLOCK)


def signed_range(target: str, pkg_end: int, entries: Sequence[Entry]) -> tuple[int, int] | None:
    """Where the code signature lies behind a PKG that ends at `pkg_end`; None where there is none."""
    if target != MACOS:
        return None
    from mkllm.runtime.artifact import macho  # nothing that other systems need at every start

    return macho.signed_range(pkg_end, len(directory(entries)) + END_SIZE)


def local_header(entry: Entry) -> bytes:
    """Everything from the start of a member's local header to its first byte."""
    name = entry.place.name.encode()
    padding = entry.place.data - entry.place.start - _FIXED_HEADER - len(name)
    extra = _LOCAL_EXTRA.size + _PADDING.size + padding
    return (
        _LOCAL.pack(0x04034B50, _NEEDED, _UTF8, 0, 0, _DATE, entry.crc, _ALL32, _ALL32, len(name), extra)
        + name
        + _LOCAL_EXTRA.pack(_ZIP64, 16, entry.place.size, entry.place.size)
        + _PADDING.pack(_MK, padding)
        + bytes(padding)
    )


def directory(entries: Iterable[Entry]) -> bytes:
    """The central directory: one record per member."""
    return b"".join(_record(entry) for entry in entries)


def _record(entry: Entry) -> bytes:
    name = entry.place.name.encode()
    mode = 0o100755 if entry.place.name == ENGINE else 0o100644
    return (
        _RECORD.pack(
            0x02014B50, _MADE_BY, _NEEDED, _UTF8, 0, 0, _DATE, entry.crc, _ALL32, _ALL32,
            len(name), _RECORD_EXTRA.size, 0, 0, 0, mode << 16, _ALL32,
        )
        + name
        + _RECORD_EXTRA.pack(_ZIP64, 24, entry.place.size, entry.place.size, entry.place.start)
    )  # fmt: skip


def end(count: int, offset: int, size: int, comment: bytes) -> bytes:
    """The last END_SIZE bytes: zip64 end record, its locator, end record and comment; `offset` and `size` in bytes are
    those of the central directory."""
    return (
        _END64.pack(0x06064B50, _END64.size - 12, _MADE_BY, _NEEDED, 0, 0, count, count, size, offset)
        + _LOCATOR.pack(0x07064B50, 0, offset + size, 1)
        + _END.pack(0x06054B50, 0, 0, _ALL16, _ALL16, _ALL32, _ALL32, len(comment))
        + comment
    )


def parse_end(data: bytes, file_size: int) -> tuple[int, int, int, Comment]:
    """Count, offset and size of the central directory, and the comment, from the last END_SIZE bytes of a file.

    Raises NotAnArtifact when they are not exactly what `end` makes.
    """
    comment = Comment.from_bytes(data[-COMMENT_SIZE:])
    count, _, size, offset = _END64.unpack_from(data)[-4:]
    if size > MAX_DIRECTORY or offset + size + END_SIZE != file_size:
        raise NotAnArtifact("its end record does not fit its length: it is truncated, or bytes were added")
    if data != end(count, offset, size, data[-COMMENT_SIZE:]):
        raise NotAnArtifact("its end record is damaged")
    return count, offset, size, comment


def parse_directory(data: bytes, count: int, crc: int) -> list[Entry]:
    """The members that a central directory lists. Raises NotAnArtifact when it is not what `directory` makes."""
    if zlib.crc32(data) != crc:
        raise NotAnArtifact("its central directory is damaged")
    entries: list[Entry] = []
    at = 0
    try:
        while at < len(data):
            entry, at = _parse_record(data, at)
            entries.append(entry)
    except (struct.error, UnicodeDecodeError):
        entries = []
    if len(entries) != count or directory(entries) != data:
        raise NotAnArtifact("its central directory is not of the form that artifacts have")
    return entries


def _parse_record(data: bytes, at: int) -> tuple[Entry, int]:
    fields = _RECORD.unpack_from(data, at)
    name_end = at + _RECORD.size + fields[10]
    name = data[at + _RECORD.size : name_end].decode()
    size, _, start = _RECORD_EXTRA.unpack_from(data, name_end)[2:]
    return Entry(Place(name, size, start), fields[7]), name_end + _RECORD_EXTRA.size
