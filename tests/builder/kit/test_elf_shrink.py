"""Libraries are smaller, need the same and still load; search paths of the maker's machine are gone."""

import subprocess
import sys
from pathlib import Path

import psutil._psutil_linux as extension
import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import toolchain
from mkllm.builder.kit.elf import read_elf
from mkllm.builder.kit.elf_shrink import shrink
from mkllm.builder.process import run

CODE = "int answer(void) { static int half = 21; return half * 2; }\n"
ASK = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())"


def compiled(folder: Path, *flags: str) -> Path:
    source, library = folder / "answer.c", folder / "libanswer.so"
    source.write_text(CODE)
    zig = [toolchain.find_zig(), "cc", "-target", "x86_64-linux-gnu.2.17", "-shared", "-g", "-O1"]
    run([*zig, *flags, source, "-o", library], env=toolchain.environment())
    return library


def answer(library: Path) -> str:
    return subprocess.run([sys.executable, "-c", ASK, library], capture_output=True, text=True, check=True).stdout


def test_still_loads_and_needs_the_same(tmp_path: Path) -> None:
    library = compiled(tmp_path, "-Wl,-rpath,/home/maker/lib", "-lm", "-Wl,-soname,libanswer.so.1")
    before = read_elf(library)
    assert before.runpath == "/home/maker/lib"
    size = library.stat().st_size
    library.write_bytes(shrink(library.read_bytes()))
    after = read_elf(library)
    assert after.runpath is None
    assert (after.needed, after.versions, after.soname) == (before.needed, before.versions, before.soname)
    assert library.stat().st_size < size
    assert b".debug_info" not in library.read_bytes()
    assert answer(library) == "42\n"


def test_search_path_beside_the_library_stays(tmp_path: Path) -> None:
    library = compiled(tmp_path, "-Wl,-rpath,$ORIGIN/../lib")
    library.write_bytes(shrink(library.read_bytes()))
    assert read_elf(library).runpath == "$ORIGIN/../lib"
    assert answer(library) == "42\n"


def test_twice_is_once(tmp_path: Path) -> None:
    library = Path(extension.__file__)
    once = shrink(library.read_bytes())
    assert shrink(once) == once
    path = tmp_path / "extension.so"
    path.write_bytes(once)
    assert read_elf(path).glibc == read_elf(library).glibc


def test_what_is_no_elf_stays() -> None:
    assert shrink(b"#!/bin/sh\n") == b"#!/bin/sh\n"


def test_damaged(tmp_path: Path) -> None:
    data = compiled(tmp_path, "-Wl,-rpath,/home/maker/lib").read_bytes()
    cut = data[:64] + bytes(len(data) - 64)
    with pytest.raises(ToolFailed):
        shrink(cut)
