"""The entry on damaged files: always one sentence, exit code 70, at once."""

import random
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from mkllm.builder.kit.pkg import COOKIE, ENTRY, FILES

DAMAGED = 70
TAIL, COMMENT = 226, 128  # zip64 record, locator, end record and comment; the comment alone
UNCHECKED = {*range(12, 28), *range(51, 115)}  # of the comment: kit id and hash of the manifest


def assert_refused(done: CompletedProcess[str], where: object) -> None:
    assert done.returncode == DAMAGED, (where, done)
    assert re.fullmatch(r"mistral: this file is (truncated or )?damaged \(.+\): copy it again\n", done.stderr), where
    assert not done.stdout


def flipped(data: bytes, position: int, bit: int = 1) -> bytes:
    return data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def pkg_table(pkg: bytes) -> list[tuple[str, int, int]]:
    """(kind, offset in the PKG, length) of each entry."""
    _, _, table, length, _, _ = COOKIE.unpack(pkg[-COOKIE.size :])
    entries, at = [], table
    while at < table + length:
        size, offset, stored, _, _, kind = ENTRY.unpack_from(pkg, at)
        entries.append((kind.decode(), offset, stored))
        at += size
    return entries


def test_truncated_anywhere(sandbox: Any, artifact_bytes: bytes, bootloader_folder: Path) -> None:
    size, least = len(artifact_bytes), (bootloader_folder / "bootloader").stat().st_size
    near = [size - lost for lost in (1, 2, 127, 128, 129, 150, 170, 225, 226, 227, 300, 1000, 5000)]
    for length in [least, least + 1, *near, *(random.Random(1).randrange(least, size) for _ in range(30))]:
        sandbox.program.write_bytes(artifact_bytes[:length])
        begun = time.monotonic()
        done = sandbox.run("exit", "0")
        assert time.monotonic() - begun < 1
        assert_refused(done, length)
    assert not sandbox.leftovers() and not sandbox.cache.exists()


def test_something_appended(sandbox: Any, artifact_bytes: bytes) -> None:
    sandbox.program.write_bytes(artifact_bytes + b"\n")
    assert_refused(sandbox.run("exit", "0"), "appended")


def test_every_byte_of_the_comment_counts(sandbox: Any, artifact_bytes: bytes) -> None:
    for position in range(COMMENT):
        at = len(artifact_bytes) - COMMENT + position
        other = flipped(artifact_bytes, at, 0x40 if position in UNCHECKED else 1)  # 0x40: no longer hexadecimal
        sandbox.program.write_bytes(other)
        assert_refused(sandbox.run("exit", "0"), position)


def test_end_record_and_zip64_record(sandbox: Any, artifact_bytes: bytes) -> None:
    """Signatures, and the sizes and offsets that are used."""
    end = len(artifact_bytes) - TAIL
    for position in [*range(4), *range(40, 60), *range(76, 80), 96, 97]:
        sandbox.program.write_bytes(flipped(artifact_bytes, end + position))
        assert_refused(sandbox.run("exit", "0"), position)


def test_central_directory(sandbox: Any, artifact_bytes: bytes) -> None:
    end = len(artifact_bytes) - TAIL
    (start,) = struct.unpack_from("<Q", artifact_bytes, end + 48)
    for position in range(start, end, 7):
        sandbox.program.write_bytes(flipped(artifact_bytes, position))
        assert_refused(sandbox.run("exit", "0"), position)


def test_pkg_when_nothing_is_extracted_yet(sandbox: Any, artifact_bytes: bytes, frozen: Path) -> None:
    pkg = frozen.read_bytes()
    start, chance = artifact_bytes.index(pkg), random.Random(2)
    for position in [0, len(pkg) - 1, *(chance.randrange(len(pkg)) for _ in range(30))]:
        sandbox.program.write_bytes(flipped(artifact_bytes, start + position))
        assert_refused(sandbox.run("exit", "0"), position)
        assert_refused(sandbox.run("exit", "0", HOME=None), position)
    assert not sandbox.leftovers() and not list(sandbox.cache.glob("*"))


def test_pkg_when_the_files_are_in_place(sandbox: Any, artifact_bytes: bytes, frozen: Path) -> None:
    """What is read from the file itself is checked at each launch; what was extracted is no longer read."""
    pkg = frozen.read_bytes()
    start = artifact_bytes.index(pkg)
    assert sandbox.run("exit", "0").returncode == 0
    for kind, offset, length in pkg_table(pkg):
        if length:
            sandbox.program.write_bytes(flipped(artifact_bytes, start + offset + length // 2))
            done = sandbox.run("exit", "0")
            if kind in FILES:
                assert done.returncode == 0, done
            else:
                assert_refused(done, kind)


def test_nonsense_with_right_checksums(
    sandbox: Any, assemble: Callable[..., bytes], bootloader_folder: Path, frozen: Path
) -> None:
    """As a defect of the builder's would be: refused all the same, never a crash."""
    loader, pkg = (bootloader_folder / "bootloader").read_bytes(), frozen.read_bytes()
    table = COOKIE.unpack(pkg[-COOKIE.size :])[2]
    for position in [*range(table, table + 18), *range(len(pkg) - COOKIE.size, len(pkg) - COOKIE.size + 20)]:
        sandbox.program.write_bytes(assemble(loader, flipped(pkg, position, 0x80)))
        done = sandbox.run("exit", "0")
        assert done.returncode in (0, DAMAGED), (position, done)
    sandbox.program.write_bytes(assemble(loader, b""))
    assert_refused(sandbox.run("exit", "0"), "no PKG")


def test_checksum_is_that_of_zip(artifact_bytes: bytes, frozen: Path) -> None:
    """The samples themselves: the PKG lies where the checks look."""
    assert f"pkg={zlib.crc32(frozen.read_bytes()):08x}".encode() in artifact_bytes[-COMMENT:]
