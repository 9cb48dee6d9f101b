"""The ELF reader, on files made for the purpose."""

import random
import struct
import sys
from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import elf
from mkllm.builder.kit.target import AARCH64, X86_64

BASE = 0x10000


def make(
    needed: list[str],
    versions: dict[str, list[str]],
    runpath: str | None = None,
    machine: int = X86_64,
    page: int = 4096,
) -> bytes:
    """A file with nothing but one loadable segment, a dynamic section and what that points at."""
    strings = b"\0"

    def string(text: str) -> int:
        nonlocal strings
        strings += text.encode() + b"\0"
        return len(strings) - len(text) - 1

    tags = [(elf.DT_NEEDED, string(name)) for name in needed]
    if runpath:
        tags.append((elf.DT_RUNPATH, string(runpath)))
    verneed = b""
    for index, (library, names) in enumerate(versions.items()):
        last = index == len(versions) - 1
        verneed += struct.pack("<HHIII", 1, len(names), string(library), 16, 0 if last else 16 + 16 * len(names))
        for number, name in enumerate(names):
            verneed += struct.pack("<IHHII", 0, 0, number + 2, string(name), 0 if number == len(names) - 1 else 16)
    header_size = 64 + 2 * 56
    tags += [(elf.DT_STRTAB, BASE + header_size), (elf.DT_VERNEED, BASE + header_size + len(strings))]
    tags.append((0, 0))
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    start = header_size + len(strings) + len(verneed)
    end = start + len(dynamic)
    header = (
        elf.MAGIC
        + bytes(12)
        + struct.pack("<H", machine)
        + bytes(12)
        + struct.pack("<QQIHHHHHH", 64, 0, 0, 64, 56, 2, 0, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", elf.PT_LOAD, 0, 0, BASE, BASE, end, end, page)
    pointer = struct.pack("<IIQQQQQQ", elf.PT_DYNAMIC, 0, start, BASE + start, 0, len(dynamic), 0, 8)
    return header + load + pointer + strings + verneed + dynamic


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "libsample.so"
    versions = {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.14"], "libm.so.6": ["GLIBC_2.9"], "libz.so.1": ["ZLIB_1.2"]}
    path.write_bytes(make(["libc.so.6", "libm.so.6", "libz.so.1"], versions, "$ORIGIN"))
    return path


def test_reads_what_the_file_needs(sample: Path) -> None:
    read = elf.read_elf(sample)
    assert read.needed == ("libc.so.6", "libm.so.6", "libz.so.1")
    assert read.versions == {"GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.9", "ZLIB_1.2"}
    assert read.glibc == (2, 14)
    assert read.runpath == "$ORIGIN"
    assert read.soname is None
    assert (read.machine, read.page) == (X86_64, 4096)


def test_reads_the_running_python() -> None:
    read = elf.read_elf(Path(sys.executable).resolve())
    assert "libc.so.6" in read.needed
    assert (2, 2) < read.glibc < (3,)


def test_newest_of_a_folder(sample: Path) -> None:
    other = sample.parent / "deeper" / "other.so"
    other.parent.mkdir()
    other.write_bytes(make(["libc.so.6"], {"libc.so.6": ["GLIBC_2.17"]}))
    (sample.parent / "text.txt").write_text("no ELF")
    assert elf.newest_glibc(sample.parent) == "2.17"


def test_nothing_needed(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>")
    assert elf.newest_glibc(tmp_path) == "0"


def system(glibc: str, machine: int = X86_64, page: int = 4096) -> elf.System:
    return elf.System(machine, glibc, page)


def test_promise_is_kept(sample: Path) -> None:
    elf.check(sample.name, elf.read_elf(sample), system("2.14"), frozenset({"libc.so.6", "libm.so.6", "libz.so.1"}))


def test_newer_glibc_is_refused(sample: Path) -> None:
    with pytest.raises(ToolFailed, match=r"'libsample.so' needs glibc 2.14, but 2.9 is promised"):
        elf.check(sample.name, elf.read_elf(sample), system("2.9"), frozenset({"libc.so.6", "libm.so.6", "libz.so.1"}))


def test_foreign_library_is_refused(sample: Path) -> None:
    with pytest.raises(ToolFailed, match=r"needs libz.so.1, which"):
        elf.check(sample.name, elf.read_elf(sample), system("2.17"), frozenset({"libc.so.6", "libm.so.6"}))


def test_another_processor_is_refused(sample: Path) -> None:
    with pytest.raises(ToolFailed, match=r"'libsample.so' is for another processor \(ELF machine 62, not 183\)"):
        elf.check(sample.name, elf.read_elf(sample), system("2.17", AARCH64), frozenset())


def test_too_small_an_alignment_is_refused() -> None:
    small, large = (elf.parse("it", make([], {}, machine=AARCH64, page=page)) for page in (16384, 65536))
    elf.check("it", large, system("2.17", AARCH64, 65536), frozenset())
    with pytest.raises(ToolFailed, match="'it' cannot be mapped with pages of 65536 bytes, only up to 16384"):
        elf.check("it", small, system("2.17", AARCH64, 65536), frozenset())


def test_truncated_anywhere(sample: Path) -> None:
    whole = sample.read_bytes()
    for length in range(len(whole)):
        sample.write_bytes(whole[:length])
        with pytest.raises(ToolFailed, match="'libsample.so' is not a whole"):
            elf.read_elf(sample)


def test_damaged_anywhere(sample: Path) -> None:
    """Any single changed byte gives an answer or the one sentence, never another failure."""
    whole, source = sample.read_bytes(), random.Random(1)
    answers = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= source.randrange(1, 256)
        sample.write_bytes(damaged)
        try:
            elf.read_elf(sample)
            answers += 1
        except ToolFailed as failure:
            assert "is not a whole 64-bit ELF file" in str(failure)
    assert 0 < answers < len(whole)
