"""Takes out of a shared library what only linkers and debuggers read; knows nothing of who loads it."""

import struct

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.elf import DT_RPATH, DT_RUNPATH, DT_STRTAB, MAGIC, PT_DYNAMIC, PT_LOAD

SECTION_TABLE, SECTION_COUNT = 40, 60  # where the file header speaks of sections
HERE = b"$ORIGIN"
PAIR = struct.Struct("<QQ")


def shrink(data: bytes) -> bytes:
    """The same library without its section table, symbols for linking, debug information, and search paths of the
    machine that built it: elsewhere a stranger's folder could supply libraries by them. What is not ELF stays as is.
    """
    if not data.startswith(MAGIC):
        return data
    try:
        return _shrunk(data)
    except (struct.error, ValueError) as error:
        raise ToolFailed(f"a library to be frozen is damaged ({error}): install its package again") from None


def _shrunk(data: bytes) -> bytes:
    segments = _segments(data)
    kept = bytearray(data[: max(offset + size for _, offset, _, size in segments)])
    struct.pack_into("<Q", kept, SECTION_TABLE, 0)
    struct.pack_into("<HH", kept, SECTION_COUNT, 0, 0)
    for kind, offset, _, size in segments:
        if kind == PT_DYNAMIC:
            _drop_search_paths(kept, offset, size, segments)
    return bytes(kept)


def _segments(data: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset, address, size in the file) of each program header."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = (struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count))
    return [(kind, offset, address, length) for kind, _, offset, address, _, length in headers]


def _drop_search_paths(data: bytearray, start: int, size: int, segments: list[tuple[int, int, int, int]]) -> None:
    pairs = [PAIR.unpack_from(data, position) for position in range(start, start + size, PAIR.size)]
    strings = next((_in_file(value, segments) for tag, value in pairs if tag == DT_STRTAB), 0)

    def stays(tag: int, value: int) -> bool:
        return tag not in (DT_RPATH, DT_RUNPATH) or data.startswith(HERE, strings + value)

    kept = [pair for pair in pairs if stays(*pair)]
    for index, pair in enumerate(kept + [(0, 0)] * (len(pairs) - len(kept))):
        PAIR.pack_into(data, start + index * PAIR.size, *pair)


def _in_file(address: int, segments: list[tuple[int, int, int, int]]) -> int:
    for kind, offset, start, size in segments:
        if kind == PT_LOAD and start <= address < start + size:
            return address - start + offset
    raise ValueError(f"the address {address:#x} lies in none of its segments")
