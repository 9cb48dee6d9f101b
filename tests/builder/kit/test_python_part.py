"""The Python part on a source like CPython's that is compiled in no time; the true one is built by the kit."""

import errno
import gzip
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mkllm.builder.errors import MissingTool, NoSpace, ToolFailed
from mkllm.builder.kit import python, python_source, store, toolchain
from mkllm.builder.kit.debian import SourceFile
from mkllm.builder.kit.elf import read_elf
from mkllm.builder.kit.part import Part, Report
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import TARGETS, Target, builder

CONFIGURE = """#!/bin/sh
echo configured >> configured
for name in CC AR PKG_CONFIG ZLIB_LIBS SOURCE_DATE_EPOCH; do eval echo "$name=\\$$name"; done > settings
cp Makefile.pre.in Makefile
"""
MAKEFILE = """
python: libpython3.11.so.1.0
\t$(CC) -o python program.c $(LINKFORSHARED)
libpython3.11.so.1.0: library.o
\t$(CC) -shared -Wl,-h$(INSTSONAME) -o $@ library.o
library.o: Modules/library.c
\techo compiled >> compiled
\t$(CC) $(CPPFLAGS) -fPIC -c -o $@ Modules/library.c
INSTSONAME = libpython3.11.so.1.0
"""
SHA256 = '#include "hashlib.h"\n    while (count >= SHA_BLOCKSIZE) {\n    sha_update(self, buf.buf, buf.len);\n\n'
CPYTHON = {
    "configure": CONFIGURE,
    "Makefile.pre.in": MAKEFILE,
    "Modules/sha256module.c": SHA256,
    "Modules/library.c": "int answer(void) { return 41; }\n",
    "program.c": "int main(void) { return 0; }\n",
    "LICENSE": "of Python\n",
    "Doc/license.rst": "and of others\n",
    "Lib/os.py": "",
    "Lib/test/test_os.py": "",
    "Lib/ctypes/__init__.py": "import _ctypes\n",
}
FIX = """--- a/Modules/library.c
+++ b/Modules/library.c
@@ -1 +1 @@
-int answer(void) { return 41; }
+int answer(void) { return 42; }
"""
DEBIAN = {
    "patches/series": "arrange.diff\nfix.diff\n",
    "patches/arrange.diff": "no patch at all",
    "patches/fix.diff": FIX,
}
ZLIB = {"LICENSE": "of zlib\n", **{f"{name}.c": f"int {name};\n" for name in python.ZLIB}}


def put(path: Path, top: str, files: dict[str, str]) -> SourceFile:
    """The same bytes at any time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return SourceFile(f"pool/{path.name}", sha256(path))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`make(files, fix)`: the part out of such a source, with changes."""

    def made(files: dict[str, str] | None = None, fix: str = FIX, target: Target | None = None) -> Part:
        sources = {
            "python": {
                "source": put(tmp_path / "python.tar.gz", "Python", {**CPYTHON, **(files or {})}),
                "debian": put(tmp_path / "debian.tar.gz", "debian", {**DEBIAN, "patches/fix.diff": fix}),
            },
            "zlib": {"zlib": put(tmp_path / "zlib.tar.gz", "zlib", ZLIB)},
        }
        pins = {"debian": {"python": {"version": "3.11.9", "first_patch": "fix.diff"}}}
        monkeypatch.setattr(python, "source_files", lambda name: sources[name])
        monkeypatch.setattr(python, "pins", lambda: pins)
        monkeypatch.setattr(python_source, "pins", lambda: pins)
        return python.part(target or builder(), tmp_path)

    compiled = toolchain.environment()  # zig's own libraries are not compiled anew for each test
    monkeypatch.setattr(toolchain, "environment", lambda: compiled)
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def folders(tmp_path: Path) -> SimpleNamespace:
    made = SimpleNamespace(work=tmp_path / "work", out=tmp_path / "out")
    made.work.mkdir()
    made.out.mkdir()
    return made


def test_built(make: Any, folders: SimpleNamespace, silent_report: Report) -> None:
    make().build(folders.work, folders.out, silent_report)
    library = folders.out / "lib" / "python3.11"
    assert {path.name for path in library.iterdir()} == {
        *("os.py", "ctypes", "pyexpat.py", "lib-dynload", "LICENSE.txt", "LICENSE-zlib.txt"),
        f"{python.sysconfig_name(builder())}.py",
    }
    assert (library / "ctypes" / "__init__.py").read_text() == ""
    assert (library / "LICENSE.txt").read_text() == "of Python\n\n\nand of others\n"
    assert subprocess.run([folders.out / "bin" / "python3.11"]).returncode == 0
    source = folders.work / "source"
    assert "return 42" in (source / "Modules" / "library.c").read_text()
    assert "mkllm_sha256(sha_info->digest" in (source / "Modules" / "sha256module.c").read_text()
    settings = (source / "settings").read_text()
    assert "PKG_CONFIG=false\n" in settings and "SOURCE_DATE_EPOCH=315532800\n" in settings


def test_another_system_needs_this_ones_and_is_configured_with_it(
    make: Any, folders: SimpleNamespace, silent_report: Report
) -> None:
    other = next(target for target in TARGETS.values() if target != builder())
    noting = CONFIGURE + 'echo "$@" > options\n'
    part, ours = make({"configure": noting}, target=other), make({"configure": noting})
    assert [needed.key for needed in part.needs] == [ours.key] and part.folder != ours.folder
    part.build(folders.work, folders.out, silent_report)
    options = (folders.work / "source" / "options").read_text().split()
    assert {f"--build={builder().triplet}", f"--host={other.triplet}"} <= set(options)
    assert f"--with-build-python={python.program(store.place_of(ours))}" in options
    assert read_elf(python.program(folders.out)).machine == other.elf_machine
    assert (python.library_folder(folders.out) / f"{python.sysconfig_name(other)}.py").exists()


def test_goes_on_where_it_ended(make: Any, folders: SimpleNamespace, silent_report: Report) -> None:
    part = make({"program.c": "int main(void) { return nonsense; }\n"})
    for _ in range(2):
        with pytest.raises(ToolFailed, match=r"'make' ended with status 2(.|\n)*nonsense"):
            part.build(folders.work, folders.out, silent_report)
    source = folders.work / "source"
    assert (source / "configured").read_text() == "configured\n" and (source / "compiled").read_text() == "compiled\n"


def test_what_is_compiled_of_other_inputs_is_forgotten(
    make: Any, folders: SimpleNamespace, silent_report: Report
) -> None:
    part = make()
    part.build(folders.work, folders.out, silent_report)
    (folders.work / "left").touch()
    (folders.work / ".inputs").write_text("others")
    shutil.rmtree(folders.out)
    folders.out.mkdir()
    part.build(folders.work, folders.out, silent_report)
    assert not (folders.work / "left").exists() and (folders.out / "bin").exists()


def test_a_patch_that_does_not_fit(make: Any, folders: SimpleNamespace, silent_report: Report) -> None:
    with pytest.raises(ToolFailed, match="'patch' ended with status 1"):
        make(fix=FIX.replace("41", "17")).build(folders.work, folders.out, silent_report)


def test_a_source_that_is_another(make: Any, folders: SimpleNamespace, silent_report: Report) -> None:
    with pytest.raises(ToolFailed, match="'sha256module.c' of Python's source is another than expected"):
        make({"Modules/sha256module.c": "\n"}).build(folders.work, folders.out, silent_report)


def test_what_is_compiled_needs_an_old_glibc_only(make: Any, folders: SimpleNamespace, silent_report: Report) -> None:
    program = "int openpty(void);\nint main(void) { return openpty(); }\n"
    with pytest.raises(ToolFailed, match=r"'python3.11' needs libutil.so.1, which not every machine has"):
        make({"program.c": program, "Makefile.pre.in": MAKEFILE.replace("program.c ", "program.c -lutil ")}).build(
            folders.work, folders.out, silent_report
        )


def test_missing_programs(
    make: Any, folders: SimpleNamespace, silent_report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make()
    monkeypatch.setattr(python.shutil, "which", lambda program: None if program == "patch" else program)
    with pytest.raises(MissingTool, match="'patch', which Python is compiled with, is missing: install it"):
        part.build(folders.work, folders.out, silent_report)


def test_full_disk(make: Any, folders: SimpleNamespace, silent_report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "source")

    part = make()
    monkeypatch.setattr(python.python_source, "prepare", full)
    with pytest.raises(NoSpace, match="no space left while writing 'source'"):
        part.build(folders.work, folders.out, silent_report)


def test_key_changes_with_the_source(make: Any) -> None:
    before = make()
    assert make().key == before.key != make({"LICENSE": "another\n"}).key


def test_the_list_of_modules_names_files_that_are_compiled() -> None:
    lines = (python.PROJECT / "Setup.local").read_text().splitlines()
    ours = [word for line in lines for word in line.split() if word.startswith("mkllm_")]
    assert ours and all((python.PROJECT / name).exists() for name in ours)
