"""What a dynamic ELF file asks of the machine it will run on: libraries and symbol versions; knows no kit.

Only what the loader itself reads is read (program headers and the dynamic section), so stripped files do as well.
64-bit little-endian files only, which every target of mkllm is.
"""

import re
import struct
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import ToolFailed

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
PT_NULL, PT_LOAD, PT_DYNAMIC, PT_INTERP = 0, 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
DT_VERNEED = 0x6FFFFFFE

GLIBC = re.compile(r"GLIBC_([0-9]+(?:\.[0-9]+)*)")
NEWER = "GLIBC_ABI_"  # of what a loader can do: the first, DT_RELR, came with glibc 2.36

Version = tuple[int, ...]


@dataclass(frozen=True)
class Elf:
    """`machine`: the processor that it is for, by number; `page`: the largest page, in bytes, that it can be mapped
    with; `needed`: names of libraries; `versions`: symbol versions such as `GLIBC_2.17` that they must have."""

    machine: int
    page: int
    needed: tuple[str, ...]
    versions: frozenset[str]
    soname: str | None
    runpath: str | None

    @property
    def glibc(self) -> Version:
        """The newest glibc symbol version needed, such as (2, 17); () when none is."""
        found = filter(None, map(GLIBC.fullmatch, self.versions))
        return max((parse_version(match[1]) for match in found), default=())


def parse_version(text: str) -> Version:
    """`2.17` as (2, 17), so that versions can be compared."""
    return tuple(int(part) for part in text.split("."))


def is_elf(path: Path) -> bool:
    """Whether the file begins as an ELF file does."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC[:4]


def read_elf(path: Path) -> Elf:
    """Raises ToolFailed when the file is damaged or not a 64-bit little-endian ELF file."""
    return parse(path.name, path.read_bytes())


def parse(name: str, data: bytes) -> Elf:
    """As `read_elf`, of a file of that name with these bytes."""
    try:
        return _read(data)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise ToolFailed(f"{name!r} is not a whole 64-bit ELF file ({error}): build the kit again") from None


def newest_glibc(folder: Path) -> str:
    """The newest glibc that any ELF file in a folder needs, such as `2.17`; `0` when none needs any."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    newest = max((read_elf(path).glibc for path in paths if is_elf(path)), default=())
    return ".".join(map(str, newest)) or "0"


@dataclass(frozen=True)
class System:
    """What files are promised to run on: a processor, by number, the smallest glibc and the largest page."""

    machine: int
    glibc: str
    page: int


def check(name: str, elf: Elf, system: System, libraries: AbstractSet[str]) -> None:
    """Raise ToolFailed unless the file of that name runs on such a system, with those libraries only."""
    glibc = system.glibc
    if elf.machine != system.machine:
        raise ToolFailed(
            f"{name!r} is for another processor (ELF machine {elf.machine}, not {system.machine}): build the kit again"
        )
    if elf.page < system.page:
        raise ToolFailed(
            f"{name!r} cannot be mapped with pages of {system.page} bytes, only up to {elf.page}: link it for those"
        )
    if elf.glibc > parse_version(glibc):
        newest = ".".join(map(str, elf.glibc))
        raise ToolFailed(f"{name!r} needs glibc {newest}, but {glibc} is promised: find the call that does")
    if abilities := sorted(version for version in elf.versions if version.startswith(NEWER)):
        raise ToolFailed(f"{name!r} needs {abilities[0]}, which glibc {glibc} does not have: link it without that")
    if foreign := sorted(set(elf.needed) - libraries):
        raise ToolFailed(f"{name!r} needs {', '.join(foreign)}, which not every machine has: link without it")


def _read(data: bytes) -> Elf:
    if not data.startswith(MAGIC):
        raise ValueError("no such header")
    segments = list(_segments(data))
    tags = [pair for kind, offset, _, size in segments if kind == PT_DYNAMIC for pair in _dynamic(data, offset, size)]
    values = dict(tags)
    strings = _offset(segments, values[DT_STRTAB]) if DT_STRTAB in values else 0

    def text(position: int) -> str:
        start = strings + position
        return data[start : data.index(b"\0", start)].decode()

    versions: list[str] = []
    if DT_VERNEED in values:
        start = _offset(segments, values[DT_VERNEED])
        versions = [text(name) for name in _version_names(data, start)]
    runpath = values.get(DT_RUNPATH, values.get(DT_RPATH))
    return Elf(
        machine=struct.unpack_from("<H", data, 18)[0],
        page=min((align for kind, align in _alignments(data) if kind == PT_LOAD), default=0),
        needed=tuple(text(value) for tag, value in tags if tag == DT_NEEDED),
        versions=frozenset(versions),
        soname=text(values[DT_SONAME]) if DT_SONAME in values else None,
        runpath=text(runpath) if runpath is not None else None,
    )


def program_headers(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """(position in the file, type) of each program header."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for position in range(table, table + size * count, size):
        yield position, struct.unpack_from("<I", data, position)[0]


def _alignments(data: bytes) -> Iterator[tuple[int, int]]:
    """(type, alignment) of each program header."""
    for position, kind in program_headers(data):
        yield kind, struct.unpack_from("<Q", data, position + 48)[0]


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(type, offset in the file, address, size in the file) of each program header."""
    for position, kind in program_headers(data):
        _, offset, address, _, length = struct.unpack_from("<IQQQQ", data, position + 4)
        yield kind, offset, address, length


def _dynamic(data: bytes, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for position in range(offset, offset + size, 16):
        tag, value = struct.unpack_from("<QQ", data, position)
        if tag == 0:
            return
        yield tag, value


def _offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, size in segments:
        if kind == PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError(f"the address {address:#x} lies in no segment")


def _version_names(data: bytes, start: int) -> Iterator[int]:
    """Positions in the string table of the version names that the needed libraries must have."""
    while True:
        _, names, _, first, following = struct.unpack_from("<HHIII", data, start)
        position = start + first
        for _ in range(names):
            _, _, _, name, next_name = struct.unpack_from("<IHHII", data, position)
            yield name
            if not next_name:
                break
            position += next_name
        if not following:
            return
        start += following
