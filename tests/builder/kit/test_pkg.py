"""PyInstaller's PKG format: what is written is read again, and read by PyInstaller itself."""

import zlib
from pathlib import Path

import pytest
from PyInstaller.archive.readers import CArchiveReader

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.pkg import Entry, Pkg, in_order, read_pkg, write_pkg

ENTRIES = (
    Entry("X utf8", "o", b""),
    Entry("pyi-mkllm-glibc 2.17", "o", b""),
    Entry("struct", "m", b"code" * 100),
    Entry("liba.so", "b", bytes(5000)),
    Entry("data/ä.txt", "x", b"text"),
    Entry("empty", "x", b""),
    Entry("link", "n", b"liba.so\0"),
    Entry("PYZ.pyz", "z", b"modules"),
)
PKG = Pkg(ENTRIES, 311, "libpython3.11.so.1.0")


@pytest.mark.parametrize("deflate", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, deflate: bool) -> None:
    path = tmp_path / "runtime.pkg"
    write_pkg(PKG, path, deflate=deflate)
    assert read_pkg(path) == PKG
    assert (path.stat().st_size > 5000) is not deflate


@pytest.mark.parametrize("deflate", [False, True])
def test_pyinstaller_reads_it(tmp_path: Path, deflate: bool) -> None:
    path = tmp_path / "runtime.pkg"
    write_pkg(PKG, path, deflate=deflate)
    theirs = CArchiveReader(str(path))
    assert set(theirs.toc) == {entry.name for entry in ENTRIES if entry.kind != "o"}
    assert theirs.options == ["X utf8", "pyi-mkllm-glibc 2.17"]
    assert all(theirs.extract(entry.name) == entry.data for entry in ENTRIES if entry.kind in "bxn")


def test_option() -> None:
    assert PKG.option("pyi-mkllm-glibc") == "2.17" and PKG.option("pyi-mkllm") is None


def test_files_lie_together() -> None:
    shuffled = [Entry(str(number), kind, b"") for number, kind in enumerate("zbmxsonZo")]
    assert "".join(entry.kind for entry in in_order(shuffled)) == "oomsbxnZz"


def test_same_entries_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_pkg(PKG, tmp_path / name, deflate=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("cut", [0, 1, 87, 88, 89, 400])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "runtime.pkg"
    write_pkg(PKG, path, deflate=False)
    path.write_bytes(path.read_bytes()[: -cut or None][:-1])
    with pytest.raises(ToolFailed, match=r"'runtime.pkg' is not what PyInstaller should have written"):
        read_pkg(path)


def test_damaged_table_is_a_failure_or_another_pkg(tmp_path: Path) -> None:
    path = tmp_path / "runtime.pkg"
    write_pkg(PKG, path, deflate=True)
    data, refused = path.read_bytes(), 0
    table = data.index(zlib.compress(b"text", 9)) + len(zlib.compress(b"text", 9))
    for position in range(table, len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x81]) + data[position + 1 :])
        try:
            read_pkg(path)
        except ToolFailed:
            refused += 1
    assert refused > 100
