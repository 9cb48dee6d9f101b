"""The native part's steps, with small programs in place of zig, cmake and ninja."""

import errno
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mkllm.builder.errors import NoSpace, ToolFailed
from mkllm.builder.kit import native, project, toolchain
from mkllm.builder.kit.target import TARGETS, Target
from mkllm.builder.kit.toolchain import Tools

LINUX, ARM, MACOS = TARGETS["linux-x86_64"], TARGETS["linux-aarch64"], TARGETS["macos-arm64"]


@dataclass
class Notes:
    """A report that remembers."""

    log: io.StringIO = field(default_factory=lambda: Log())
    steps: list[str] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)


class Log(io.StringIO):
    name = "build.log"


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    path = tmp_path / "llama_cpp_python-9.9.tar.gz"
    files = {"PKG-INFO": "Name: llama_cpp_python\nVersion: 9.9\n", "vendor/llama.cpp/LICENSE": "MIT\n"}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"llama_cpp_python-9.9/{name}")
            info.size, info.mtime = len(text), 1000
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    found = Tools(
        program(tmp_path / "zig", "echo 0.17.1"),
        program(tmp_path / "cmake", "echo cmake version 4.4.4"),
        program(tmp_path / "ninja", "echo 1.13.2"),
    )
    monkeypatch.setattr(toolchain, "find_tools", lambda: found)
    return found


def test_steps_of_ninja_become_fractions() -> None:
    seen: list[float] = []
    on_line = project.step_reporter(seen.append)
    for line in ("[1/4] Building CXX object a.o", "a.cpp:1: warning: [2/4]", "[4/4] Linking"):
        on_line(line)
    assert seen == [0.25, 1.0]


@pytest.mark.usefixtures("tools")
def test_key_changes_with_the_source(sdist: Path) -> None:
    before = native.part(LINUX, "all", sdist)
    assert native.part(LINUX, "all", sdist).key == before.key
    assert native.part(LINUX, "host", sdist).key != before.key
    arm = native.part(ARM, "all", sdist)
    assert arm.key != before.key and arm.folder != before.folder
    sdist.write_bytes(sdist.read_bytes() + b"\0")
    assert native.part(LINUX, "all", sdist).key != before.key


def test_compiler_error_is_shown(sdist: Path, tools: Tools, tmp_path: Path) -> None:
    part, notes = native.part(LINUX, "host", sdist), Notes()
    program(tools.ninja, "echo '[1/9] Building'; echo 'a.cpp:3: error: no such thing'; exit 1")
    with pytest.raises(ToolFailed, match=r"'ninja' ended with status 1; the whole output is in build.log") as failure:
        part.build(tmp_path / "work", tmp_path / "out", notes)
    assert "error: no such thing" in str(failure.value)
    assert notes.steps[:2] == ["unpacking llama.cpp", "configuring llama.cpp"]
    assert notes.fractions == [1 / 9]


def test_disk_full_while_compiling(sdist: Path, tools: Tools, tmp_path: Path) -> None:
    part = native.part(LINUX, "host", sdist)
    program(tools.ninja, "echo 'LLVM ERROR: IO failure on output stream: No space left on device'; exit 1")
    with pytest.raises(NoSpace, match="no space left"):
        part.build(tmp_path / "work", tmp_path / "out", Notes())


@pytest.mark.usefixtures("tools")
def test_disk_full_while_unpacking(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a.cpp")

    monkeypatch.setattr(native, "unpack", full)
    with pytest.raises(NoSpace, match="while writing 'a.cpp'"):
        native.part(LINUX, "host", sdist).build(tmp_path / "work", tmp_path / "out", Notes())


@pytest.mark.parametrize(("target", "count"), [(LINUX, 14), (ARM, 8), (MACOS, 3)])
def test_what_cmake_is_told(target: Target, count: int, sdist: Path, tools: Tools, tmp_path: Path) -> None:
    part, told = native.part(target, "all", sdist), tmp_path / "told"
    program(tools.cmake, f'printf "%s\\n" "$@" > {told}')
    program(tools.ninja, "exit 1")
    with pytest.raises(ToolFailed):
        part.build(tmp_path / "work", tmp_path / "out", Notes())
    words = told.read_text().splitlines()
    assert "-DMKLLM_LLAMA_VERSION=9.9" in words
    assert next(word for word in words if word.startswith("-DMKLLM_VARIANTS=")).count(";") == count - 1
    assert f"-DCMAKE_SYSTEM_PROCESSOR={target.machine}" in words
    assert ("-DCMAKE_OSX_SYSROOT=" in words) == (target == MACOS)
    assert f"-target {target.zig}" in (tmp_path / "work/toolchain/cxx").read_text()
    assert (tmp_path / "work/project/shim.cpp").exists()
