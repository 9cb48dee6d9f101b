"""PE files made for these tests: what is read of them, and resources put into them, read back by another library."""

import struct

import pefile
import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.pe import is_pe, parse_pe, sections, with_resources

from .windows_samples import HEADER, program

RESOURCES = {(24, 1): b"<assembly/>", (3, 1): b"one", (3, 2): b"second", (14, 1): bytes(range(40))}


def read(data: bytes) -> dict[tuple[int, int], bytes]:
    """Resources by type and number, as pefile finds them."""
    file = pefile.PE(data=data)
    found = {}
    for kind in file.DIRECTORY_ENTRY_RESOURCE.entries:
        for number in kind.directory.entries:
            (leaf,) = number.directory.entries
            place = leaf.data.struct
            found[kind.id, number.id] = file.get_data(place.OffsetToData, place.Size)
    return found


def test_what_it_needs() -> None:
    found = parse_pe("x.dll", program(["KERNEL32.dll", "ws2_32.dll"], system=(6, 1), is_library=True))
    assert (found.needed, found.system, found.is_library) == ({"kernel32.dll", "ws2_32.dll"}, (6, 1), True)
    assert parse_pe("x.exe", program([])).needed == frozenset()


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF", b"MZ" + bytes(500), program(["kernel32.dll"])[:0x410]])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ToolFailed, match="'x.dll' is no whole 64-bit program for Windows"):
        parse_pe("x.dll", data)


def test_another_machine() -> None:
    data = bytearray(program([]))
    struct.pack_into("<H", data, HEADER + 4, 0x14C)
    with pytest.raises(ToolFailed, match="its header is another"):
        parse_pe("x.dll", bytes(data))
    assert is_pe(bytes(data)) and not is_pe(b"\x7fELF")


def test_resources_are_found_by_others() -> None:
    assert read(with_resources("x.exe", program(["kernel32.dll"]), RESOURCES)) == RESOURCES


def test_what_was_there_stays_where_it_was() -> None:
    data = program(["kernel32.dll"])
    result = with_resources("x.exe", data, RESOURCES)
    assert result[0x400 : len(data)] == data[0x400:]
    assert sections(result)[: len(sections(data))] == sections(data)
    assert parse_pe("x.exe", result) == parse_pe("x.exe", data)
    last, image = sections(result)[-1], pefile.PE(data=result).OPTIONAL_HEADER
    assert (
        last.name == ".rsrc" and last.address % image.SectionAlignment == 0 and last.offset + last.size == len(result)
    )
    assert image.SizeOfImage == last.address + image.SectionAlignment


def test_the_same_resources_give_the_same_bytes() -> None:
    backwards = dict(reversed(RESOURCES.items()))
    assert with_resources("x", program([]), RESOURCES) == with_resources("x", program([]), backwards)


def test_resources_are_put_in_once() -> None:
    with pytest.raises(ToolFailed, match="'x.exe' cannot be given an icon and a version .it has resources"):
        with_resources("x.exe", with_resources("x.exe", program([]), RESOURCES), RESOURCES)


def test_a_header_without_room() -> None:
    data = bytearray(program([]))
    section = HEADER + 24 + struct.unpack_from("<H", data, HEADER + 20)[0]
    struct.pack_into("<I", data, section + 20, section + 60)
    with pytest.raises(ToolFailed, match="no room in its header"):
        with_resources("x.exe", bytes(data), RESOURCES)
