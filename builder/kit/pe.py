"""Programs and libraries for Windows (PE files, 64-bit): what they need, and resources put into them; knows no kit.

Source: Microsoft's PE format specification. Resources are written as a section of their own behind the others, so that
nothing that is there moves; a file that has some already, or a signature, is refused.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mkllm.builder.errors import ToolFailed

MACHINE = 0x8664
OPTIONAL = 112  # bytes of the optional header before its directories
IMPORTS, RESOURCES, SIGNATURES, DELAYED = 1, 2, 4, 13
SECTION = struct.Struct("<8sIIIIIIHHI")
INITIALIZED_READABLE = 0x40000040
ENTRY, LEAF = struct.Struct("<II"), struct.Struct("<IIII")
LANGUAGE = 0x409  # English of the United States, as PyInstaller and most tools have it


@dataclass(frozen=True)
class Section:
    """`address` and `length` in memory, `offset` and `size` in the file."""

    name: str
    address: int
    length: int
    offset: int
    size: int


@dataclass(frozen=True)
class Pe:
    """`needed` are the libraries that are loaded with the file, in lower case; `system` is the oldest Windows that
    loads it, as (major, minor)."""

    needed: frozenset[str]
    system: tuple[int, int]
    is_library: bool


def is_pe(data: bytes) -> bool:
    """Whether a file begins as programs for Windows do."""
    return data[:2] == b"MZ"


def parse_pe(name: str, data: bytes) -> Pe:
    """Raises ToolFailed for a file that is no 64-bit program or library of x86, or not whole."""
    try:
        header = _header(data)
        flags = struct.unpack_from("<H", data, header + 22)[0]
        system = struct.unpack_from("<HH", data, header + 24 + 48)
        needed = {text.lower() for text in (*_imported(data, IMPORTS, 20, 12), *_imported(data, DELAYED, 32, 4))}
        return Pe(frozenset(needed), system, bool(flags & 0x2000))
    except (struct.error, ValueError) as error:
        raise ToolFailed(f"{name!r} is no whole 64-bit program for Windows ({error})") from None


def with_resources(name: str, data: bytes, resources: Mapping[tuple[int, int], bytes]) -> bytes:
    """The same program with these resources, by type and number. Raises ToolFailed for a file that cannot take them."""
    try:
        return _with_section(data, resources)
    except (struct.error, ValueError) as error:
        raise ToolFailed(f"{name!r} cannot be given an icon and a version ({error})") from None


def _header(data: bytes) -> int:
    """Where the PE header begins."""
    header: int = struct.unpack_from("<I", data, 0x3C)[0] if is_pe(data) else 0
    machine = struct.unpack_from("<H", data, header + 4)[0]
    if data[header : header + 4] != b"PE\0\0" or machine != MACHINE or data[header + 24 : header + 26] != b"\x0b\x02":
        raise ValueError("its header is another")
    return header


def _directory(data: bytes, index: int) -> tuple[int, int]:
    """Address and size of a directory; zeros for one that is not there."""
    header = _header(data)
    count = struct.unpack_from("<I", data, header + 24 + OPTIONAL - 4)[0]
    found: tuple[int, int] = (
        struct.unpack_from("<II", data, header + 24 + OPTIONAL + 8 * index) if index < count else (0, 0)
    )
    return found


def sections(data: bytes) -> list[Section]:
    """In the order of the file's table. Raises ValueError or struct.error for damage."""
    header = _header(data)
    count, size = struct.unpack_from("<H", data, header + 6)[0], struct.unpack_from("<H", data, header + 20)[0]
    found = []
    for index in range(count):
        fields = SECTION.unpack_from(data, header + 24 + size + index * SECTION.size)
        name, length, address, stored, offset = fields[:5]
        found.append(Section(name.rstrip(b"\0").decode("latin-1"), address, length, offset, stored))
    return found


def _offset(data: bytes, address: int) -> int:
    for section in sections(data):
        if section.address <= address < section.address + section.size:
            return address - section.address + section.offset
    raise ValueError(f"there is nothing at {address:#x}")


def _imported(data: bytes, directory: int, entry: int, name: int) -> Iterator[str]:
    """Names of libraries in a table of entries of that size, which have their name's address at `name`."""
    address, _ = _directory(data, directory)
    if not address:
        return
    at = _offset(data, address)
    while place := struct.unpack_from("<I", data, at + name)[0]:
        begin = _offset(data, place)
        yield data[begin : data.index(b"\0", begin)].decode("ascii")
        at += entry


def _with_section(data: bytes, resources: Mapping[tuple[int, int], bytes]) -> bytes:
    if _directory(data, RESOURCES) != (0, 0) or _directory(data, SIGNATURES) != (0, 0):
        raise ValueError("it has resources or a signature already")
    header = _header(data)
    alignment, file_alignment = struct.unpack_from("<II", data, header + 24 + 32)
    table = sections(data)
    optional = struct.unpack_from("<H", data, header + 20)[0]
    entry = header + 24 + optional + len(table) * SECTION.size
    if entry + SECTION.size > min(section.offset for section in table if section.size):
        raise ValueError("there is no room in its header")
    address = _up(max(section.address + section.length for section in table), alignment)
    tree = resource_tree(resources, address)
    stored = tree + bytes(-len(tree) % file_alignment)
    result = bytearray(data + bytes(-len(data) % file_alignment))
    fields = (b".rsrc", len(tree), address, len(stored), len(result), 0, 0, 0, 0, INITIALIZED_READABLE)
    SECTION.pack_into(result, entry, *fields)
    struct.pack_into("<H", result, header + 6, len(table) + 1)
    initialized = struct.unpack_from("<I", data, header + 24 + 8)[0]
    struct.pack_into("<I", result, header + 24 + 8, initialized + len(stored))
    struct.pack_into("<I", result, header + 24 + 56, _up(address + len(tree), alignment))
    struct.pack_into("<I", result, header + 24 + 64, 0)  # a checksum is asked of drivers alone
    struct.pack_into("<II", result, header + 24 + OPTIONAL + 8 * RESOURCES, address, len(tree))
    return bytes(result) + stored


def _up(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment


def resource_tree(resources: Mapping[tuple[int, int], bytes], address: int) -> bytes:
    """The section's content when it lies at `address`: types, in each of them numbers, in each of these a language."""
    kinds = sorted({kind for kind, _ in resources})
    numbers = {kind: sorted(number for other, number in resources if other == kind) for kind in kinds}
    size = _size(len(kinds)) + sum(_size(len(numbers[kind])) for kind in kinds) + _size(1) * len(resources)
    leaves, at = size, size + LEAF.size * len(resources)
    tables, descriptions, contents = bytearray(), bytearray(), bytearray()
    second = _size(len(kinds))
    third = second + sum(_size(len(numbers[kind])) for kind in kinds)
    tables += _table(
        kinds, [second + sum(_size(len(numbers[k])) for k in kinds[:i]) | 1 << 31 for i in range(len(kinds))]
    )
    ordered = [(kind, number) for kind in kinds for number in numbers[kind]]
    for kind in kinds:
        tables += _table(numbers[kind], [third + _size(1) * ordered.index((kind, n)) | 1 << 31 for n in numbers[kind]])
    for index, key in enumerate(ordered):
        tables += _table([LANGUAGE], [leaves + LEAF.size * index])
        descriptions += LEAF.pack(address + at + len(contents), len(resources[key]), 0, 0)
        contents += resources[key] + bytes(-len(resources[key]) % 8)
    return bytes(tables + descriptions + contents)


def _size(entries: int) -> int:
    return 16 + ENTRY.size * entries


def _table(numbers: Sequence[int], places: Sequence[int]) -> bytes:
    head = struct.pack("<IIHHHH", 0, 0, 0, 0, 0, len(numbers))
    return head + b"".join(ENTRY.pack(number, place) for number, place in zip(numbers, places, strict=True))
