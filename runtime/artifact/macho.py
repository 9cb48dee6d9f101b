"""The Mach-O program that an artifact for macOS begins with: its header grown over what follows, and an ad-hoc code
signature of all of it (spec/artifact.md). 64-bit, one architecture, little-endian; knows neither zip nor manifest."""

import hashlib
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from mkllm.runtime.platform.files import read_into

MAGIC = 0xFEEDFACF
ARM64 = 0x0100000C
EXECUTE = 2
KINDS = (EXECUTE, 6, 8)  # programs, libraries, modules
FAT = 0xCAFEBABE
SEGMENT, SYMBOLS, SIGNATURE = 0x19, 0x2, 0x1D  # LC_SEGMENT_64, LC_SYMTAB, LC_CODE_SIGNATURE
MEMORY_PAGE = 16384

# Offsets in the file and lengths of the symbols and of the signature are fields of 32 bits.
LIMIT = 1 << 32
ALIGNMENT = 16
IDENTIFIER = b"mkllm"
PAGE = 16384  # what codesign takes for arm64; linkers take 4096
ADHOC, LINKER_SIGNED = 0x2, 0x20000
FLAGS = ADHOC | LINKER_SIGNED
CHUNK = 1 << 20

_HEADER = struct.Struct("<8I")
_COMMAND = struct.Struct("<II")
_SEGMENT = struct.Struct("<II16sQQQQ")  # up to the length in the file
_SYMBOLS = struct.Struct("<6I")
_RANGE = struct.Struct("<4I")

_SUPER_BLOB = struct.Struct(">III")
_BLOB_INDEX = struct.Struct(">II")
_DIRECTORY = struct.Struct(">9I4B4I4Q")
_VERSION = 0x20400  # with the executable segment
_SHA256 = 2
_HASH = 32
_MAIN_BINARY = 1
_FIRST = _SUPER_BLOB.size + _BLOB_INDEX.size


class NotMachO(ValueError):
    """The bytes are no program of the expected form; the text says what is wrong with them."""


@dataclass(frozen=True)
class Program:
    """What is changed in a header, and what a signature says of it: places of three load commands, the length of __TEXT
    in the file, where __LINKEDIT and the strings of symbols begin, and where the program's own signature lies."""

    linkedit_command: int
    symbols_command: int
    signature_command: int
    text: int
    linkedit: int
    strings: int
    signature: tuple[int, int]


def is_macho(data: bytes) -> bool:
    """Whether a file begins as one of macOS's, for one architecture or several."""
    return data[:4] in (MAGIC.to_bytes(4, "little"), FAT.to_bytes(4, "big"))


def parse(data: bytes, kinds: tuple[int, ...] = (EXECUTE,)) -> Program:
    """The program, or file of other kinds, whose first bytes are `data`, header and load commands included.

    Raises NotMachO."""
    try:
        return _parse(data, kinds)
    except struct.error:
        raise NotMachO("it is too short") from None


def _parse(data: bytes, kinds: tuple[int, ...]) -> Program:
    magic, cpu, _, kind, count, size, _, _ = _HEADER.unpack_from(data)
    if (magic, cpu) != (MAGIC, ARM64) or kind not in kinds:
        raise NotMachO("it is no 64-bit program for arm64")
    found: dict[str, int] = {}
    at = _HEADER.size
    for _ in range(count):
        command, length = _COMMAND.unpack_from(data, at)
        if length < _COMMAND.size or at + length > _HEADER.size + size:
            raise NotMachO("its load commands make no sense")
        if name := _name(data, command, at):
            found[name] = at
        at += length
    if missing := {"__TEXT", "__LINKEDIT", "symbols", "signature"} - found.keys():
        raise NotMachO(f"it has no {min(missing)}")
    segment, symbols = found["__LINKEDIT"], found["symbols"]
    return Program(
        linkedit_command=segment,
        symbols_command=symbols,
        signature_command=found["signature"],
        text=_SEGMENT.unpack_from(data, found["__TEXT"])[6],
        linkedit=_SEGMENT.unpack_from(data, segment)[5],
        strings=_SYMBOLS.unpack_from(data, symbols)[4],
        signature=_RANGE.unpack_from(data, found["signature"])[2:],
    )


def _name(data: bytes, command: int, at: int) -> str | None:
    if command == SEGMENT:
        return str(_SEGMENT.unpack_from(data, at)[2].rstrip(b"\0").decode("ascii", "replace"))
    return {SYMBOLS: "symbols", SIGNATURE: "signature"}.get(command)


def signed_range(pkg_end: int, rest: int) -> tuple[int, int] | None:
    """Where the signature of a file begins and ends, whose PKG ends at `pkg_end` and which has `rest` bytes behind the
    signature; None where that file is too long to be signed."""
    start = -(-pkg_end // ALIGNMENT) * ALIGNMENT
    end = start + -(-signature_size(start) // ALIGNMENT) * ALIGNMENT
    return (start, end) if end + rest < LIMIT else None


def grown(data: bytes, start: int, end: int) -> bytes:
    """The program `data` as it begins a file of `end` bytes whose signature begins at `start`: __LINKEDIT reaches to
    the end, the strings of symbols up to the signature. Raises NotMachO."""
    program, new = parse(data), bytearray(data)
    command, size, name, address, _, offset, _ = _SEGMENT.unpack_from(new, program.linkedit_command)
    length = end - offset
    memory = -(-length // MEMORY_PAGE) * MEMORY_PAGE
    _SEGMENT.pack_into(new, program.linkedit_command, command, size, name, address, memory, offset, length)
    symbols = list(_SYMBOLS.unpack_from(new, program.symbols_command))
    symbols[5] = start - program.strings
    _SYMBOLS.pack_into(new, program.symbols_command, *symbols)
    command, size, *_ = _RANGE.unpack_from(new, program.signature_command)
    _RANGE.pack_into(new, program.signature_command, command, size, start, end - start)
    return bytes(new)


def signature_size(limit: int, identifier: bytes = IDENTIFIER, page: int = PAGE) -> int:
    """The length of the signature of the first `limit` bytes of a file."""
    return _FIRST + _DIRECTORY.size + len(identifier) + 1 + -(-limit // page) * _HASH


def signature(hashes: bytes, limit: int, text: int, identifier: bytes = IDENTIFIER, page: int = PAGE) -> bytes:
    """The ad-hoc signature of the first `limit` bytes of a file, of whose pages `hashes` are the SHA-256, and whose
    __TEXT has `text` bytes: a code directory alone, as linkers write it. The program needs no certificate to run."""
    names = _DIRECTORY.size
    first_hash = names + len(identifier) + 1
    size = first_hash + len(hashes)
    directory = _DIRECTORY.pack(
        0xFADE0C02, size, _VERSION, FLAGS, first_hash, names, 0, len(hashes) // _HASH, limit,
        _HASH, _SHA256, 0, page.bit_length() - 1,
        0, 0, 0, 0,
        0, 0, text, _MAIN_BINARY,
    )  # fmt: skip
    blob = _SUPER_BLOB.pack(0xFADE0CC0, _FIRST + size, 1) + _BLOB_INDEX.pack(0, _FIRST)
    return blob + directory + identifier + b"\0" + hashes


def sign(
    descriptor: int, program: bytes, place: tuple[int, int], progress: Callable[[int], None] = lambda done: None
) -> bytes:
    """All bytes from where the signature of an open file begins to where it ends; `program` is what the file begins
    with. The rest of the file before it is there already. Raises NotMachO."""
    start, end = place
    blob = signature(page_hashes(descriptor, start, progress), start, parse(program).text)
    return blob + bytes(end - start - len(blob))


def page_hashes(
    descriptor: int, limit: int, progress: Callable[[int], None] = lambda done: None, page: int = PAGE
) -> bytes:
    """SHA-256 of each page of the first `limit` bytes of an open file, one after the other; the last may be shorter.

    `progress` is told numbers of bytes. Raises NotMachO when the file is shorter."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pieces = []
        for piece, size in pool.map(partial(_hash_chunk, descriptor, limit, page), range(0, limit, CHUNK)):
            pieces.append(piece)
            progress(size)
    return b"".join(pieces)


def _hash_chunk(descriptor: int, limit: int, page: int, at: int) -> tuple[bytes, int]:
    size = min(CHUNK, limit - at)
    view = memoryview(bytearray(size))
    done = 0
    while done < size:
        if not (count := read_into(descriptor, view[done:], at + done)):
            raise NotMachO("it became shorter while it was read")
        done += count
    pages = (view[start : start + page] for start in range(0, size, page))
    return b"".join(hashlib.sha256(data).digest() for data in pages), size
