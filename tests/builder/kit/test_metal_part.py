"""The Metal part, which only macOS can compile: that it says so, and what it tells CMake there."""

import sys
from pathlib import Path

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import metal, toolchain
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.toolchain import Tools


@pytest.mark.skipif(sys.platform == "darwin", reason="it is compiled here")
def test_it_is_refused_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(NoKit, match="^the backend 'metal' is compiled on macOS alone"):
        metal.part(tmp_path / "source.tar.gz")


def test_what_it_is_compiled_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, with programs that note what they are told."""
    sdist, work, told = tmp_path / "source.tar.gz", tmp_path / "work", tmp_path / "told"
    sdist.write_bytes(b"the source")
    for name in ("clang", "cmake", "ninja"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {told}\necho {name} version 1.2.3\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tools = Tools(tmp_path / "ninja", tmp_path / "cmake", tmp_path / "ninja")
    monkeypatch.setattr(toolchain, "find_tools", lambda: tools)
    monkeypatch.setattr(metal, "unpack", lambda sdist, folder: None)
    places = Places(work)
    (places.build / "bin").mkdir(parents=True)
    (places.build / "bin" / metal.MODULE).write_bytes(b"a module")
    (places.source / "vendor" / "llama.cpp").mkdir(parents=True)
    (places.source / "vendor" / "llama.cpp" / "LICENSE").write_text("MIT")
    part = metal.part(sdist)
    with (tmp_path / "log").open("w") as log:
        part.build(work, tmp_path / "out", Quiet(log))
    words = told.read_text().splitlines()
    assert {"-DGGML_METAL_EMBED_LIBRARY=ON", "-DCMAKE_OSX_ARCHITECTURES=arm64", "ggml-metal"} <= set(words)
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {metal.MODULE, "llama.cpp.txt"}


class Quiet:
    """A report that nobody reads."""

    def __init__(self, log: object) -> None:
        self.log = log

    def step(self, text: str) -> None: ...

    def progress(self, fraction: float) -> None: ...
