"""Finding the tools, and the wrappers that make zig a compiler for build systems."""

import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import MissingTool
from mkllm.builder.kit import toolchain
from mkllm.builder.kit.target import TARGETS


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(toolchain, "distribution", missing)


@pytest.mark.usefixtures("no_packages")
def test_tools_from_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "zig", "echo 0.17.1")
    program(tmp_path / "cmake", "echo cmake version 4.4.4; echo; echo more")
    program(tmp_path / "ninja", "echo 1.13.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = toolchain.find_tools()
    assert tools.zig == tmp_path / "zig"
    assert tools.versions() == {"zig": "0.17.1", "cmake": "4.4.4", "ninja": "1.13.2"}


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize("missing", ["zig", "cmake", "ninja"])
def test_missing_tool_says_what_to_install(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"zig", "cmake", "ninja"} - {missing}:
        program(tmp_path / name, "echo 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=rf"the program '{missing}' is missing: run `pip install 'mkllm\[kit\]'`"):
        toolchain.find_tools()


def test_tool_that_does_not_run(tmp_path: Path) -> None:
    broken = program(tmp_path / "zig", "exit 3")
    with pytest.raises(MissingTool, match="does not tell its version"):
        toolchain.Tools(broken, broken, broken).versions()


def test_wrappers_pass_every_word_on(tmp_path: Path) -> None:
    zig = program(tmp_path / "a folder" / "zig", 'for word in "$@"; do echo "<$word>"; done')
    wrappers = toolchain.write_wrappers(zig, TARGETS["linux-x86_64"], tmp_path / "wrappers")
    printed = subprocess.run([wrappers["cxx"], "-o", "a b", "c.cpp"], capture_output=True, text=True, check=True).stdout
    assert printed.split("\n")[:3] == ["<c++>", "<-target>", "<x86_64-linux-gnu.2.17>"]
    assert printed.endswith("<-o>\n<a b>\n<c.cpp>\n")
    assert subprocess.run([wrappers["ar"], "x"], capture_output=True, text=True, check=True).stdout == "<ar>\n<x>\n"


def test_same_wrappers_are_not_written_again(tmp_path: Path) -> None:
    zig = program(tmp_path / "zig", "true")
    first = {
        path: path.stat().st_mtime_ns
        for path in toolchain.write_wrappers(zig, TARGETS["linux-x86_64"], tmp_path).values()
    }
    again = {
        path: path.stat().st_mtime_ns
        for path in toolchain.write_wrappers(zig, TARGETS["linux-x86_64"], tmp_path).values()
    }
    assert again == first
