"""PyInstaller's PKG archive, read whole and written again; knows the format, not what the entries mean to a kit."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import ToolFailed

MAGIC = b"MEI\014\013\012\013\016"
COOKIE = struct.Struct("!8sIIII64s")
ENTRY = struct.Struct("!IIIIBc")
ALIGNMENT = 16  # of table entries, as its reader in C wants them
LEVEL = 9

BINARY, DATA, ZIP_FILE, LINK, OPTION, MODULES, BOOT, SCRIPT = "b", "x", "Z", "n", "o", "z", "m", "s"
FILES = (BINARY, DATA, LINK, ZIP_FILE)  # the kinds that become files in the home


@dataclass(frozen=True)
class Entry:
    """`kind` is PyInstaller's letter for it; `data` is not compressed."""

    name: str
    kind: str
    data: bytes


@dataclass(frozen=True)
class Pkg:
    """`python` is the version as 311 for 3.11; `library` the name of Python's shared library among the entries."""

    entries: tuple[Entry, ...]
    python: int
    library: str

    def option(self, name: str) -> str | None:
        """The value of an option `<name> <value>`, None when it is not there."""
        found = [entry.name for entry in self.entries if entry.kind == OPTION and entry.name.startswith(f"{name} ")]
        return found[0].removeprefix(f"{name} ") if found else None


def read_pkg(path: Path) -> Pkg:
    """Raises ToolFailed when the file is not a whole PKG."""
    data = path.read_bytes()
    try:
        magic, length, table, table_length, python, library = COOKIE.unpack(data[-COOKIE.size :])
        if magic != MAGIC or length != len(data):
            raise ValueError("its end is not that of a PKG")
        return Pkg(tuple(_entries(data, table, table_length)), python, library.rstrip(b"\0").decode())
    except (struct.error, ValueError, zlib.error) as error:
        raise ToolFailed(f"{path.name!r} is not what PyInstaller should have written ({error})") from None


def write_pkg(pkg: Pkg, path: Path, *, deflate: bool) -> None:
    """The entries in their order. Modules are never deflated as a whole: each of them is already."""
    blob, table = bytearray(), bytearray()
    for entry in pkg.entries:
        packed = deflate and entry.kind not in (MODULES, LINK, OPTION)
        data = zlib.compress(entry.data, LEVEL) if packed else entry.data
        name = entry.name.encode() + b"\0"
        name += bytes(-(ENTRY.size + len(name)) % ALIGNMENT)
        sizes = (ENTRY.size + len(name), len(blob), len(data), len(entry.data))
        table += ENTRY.pack(*sizes, packed, entry.kind.encode()) + name
        blob += data
    length = len(blob) + len(table) + COOKIE.size
    cookie = COOKIE.pack(MAGIC, length, len(blob), len(table), pkg.python, pkg.library.encode())
    path.write_bytes(bytes(blob + table) + cookie)


def _entries(data: bytes, table: int, length: int) -> Iterator[Entry]:
    end = table + length
    while table < end:
        size, offset, stored, plain, packed, kind = ENTRY.unpack_from(data, table)
        if size <= ENTRY.size or table + size > end or offset + stored > len(data):
            raise ValueError("its table makes no sense")
        name = data[table + ENTRY.size : table + size].rstrip(b"\0").decode()
        content = data[offset : offset + stored]
        entry = Entry(name, kind.decode(), zlib.decompress(content) if packed else content)
        if len(entry.data) != plain:
            raise ValueError(f"the entry {name!r} has another size than it says")
        yield entry
        table += size


def in_order(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Options, then bootstrap code as it is, then files, then modules: what becomes files lies together, so that the
    entry can check the rest alone when the files are already in place."""
    ranks = {OPTION: 0, **dict.fromkeys(FILES, 2), MODULES: 3}
    return tuple(sorted(entries, key=lambda entry: ranks.get(entry.kind, 1)))
