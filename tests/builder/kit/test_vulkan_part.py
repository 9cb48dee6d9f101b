"""The Vulkan part: what it looks for on the machine, what its key depends on, and what its module may need."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from mkllm.builder.errors import MissingTool, NoKit, NoSpace, ToolFailed
from mkllm.builder.kit import toolchain, vulkan
from mkllm.builder.kit.build import MODULE, optional_backends
from mkllm.builder.kit.elf import Elf
from mkllm.builder.kit.promise import require
from mkllm.builder.kit.target import TARGETS, X86_64
from mkllm.builder.kit.toolchain import Tools

LINUX = TARGETS["linux-x86_64"]


@dataclass
class Notes:
    """A report that remembers."""

    log: IO[str]
    steps: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)

    def progress(self, fraction: float) -> None: ...


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Vulkan SDK of a few lines, and no glslc beside it."""
    folder = tmp_path / "sdk"
    program(folder / "bin" / "glslc", "echo shaderc v2031.4 v2031.4; echo Target: SPIR-V 1.0")
    texts = {
        "vulkan/vulkan.hpp": "// Copyright somebody\n// SPDX-License-Identifier: Apache-2.0 OR MIT\n\nclass it;\n",
        "vulkan/vulkan_core.h": "#define VK_HEADER_VERSION 999\n",
        "spirv/unified1/spirv.hpp": "// Copyright another\n// Permission is hereby granted\n",
    }
    for name, text in texts.items():
        (folder / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "include" / name).write_text(text)
    monkeypatch.setenv("VULKAN_SDK", str(folder))
    monkeypatch.setenv("PATH", "/nowhere")
    return folder


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    found = Tools(*(program(tmp_path / name, f"/bin/echo {name} version 1.2.3") for name in ("zig", "cmake", "ninja")))
    monkeypatch.setattr(toolchain, "find_tools", lambda: found)
    return found


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    path = tmp_path / "source.tar.gz"
    path.write_bytes(b"the source")
    return path


def test_an_sdk_that_is_named_comes_first(sdk: Path) -> None:
    found = vulkan.find_shaders()
    assert found.glslc == sdk / "bin" / "glslc" and found.headers["vulkan"] == sdk / "include" / "vulkan"
    assert found.versions() == {"glslc": "2031.4", "vulkan_headers": "999"}


def test_no_compiler_of_shaders(sdk: Path) -> None:
    (sdk / "bin" / "glslc").unlink()
    with pytest.raises(
        MissingTool, match="'glslc', for the shaders of the backend 'vulkan', is missing: install glslc, "
    ):
        vulkan.find_shaders()


def test_no_headers(sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(sdk / "include" / "spirv")
    monkeypatch.setattr(vulkan, "SYSTEM_HEADERS", ())
    with pytest.raises(
        MissingTool, match="the header 'spirv/unified1/spirv.hpp', which .* is missing: install glslc, "
    ):
        vulkan.find_shaders()


@pytest.mark.usefixtures("tools")
def test_the_key_changes_with_what_compiles_the_shaders_and_with_the_headers(sdk: Path, sdist: Path) -> None:
    before = vulkan.part(LINUX, sdist)
    assert vulkan.part(LINUX, sdist).key == before.key and before.inputs["version glslc"] == "2031.4"
    (sdk / "include" / "vulkan" / "vulkan.hpp").write_text("class other;\n")
    headers = vulkan.part(LINUX, sdist)
    program(sdk / "bin" / "glslc", "echo shaderc v2031.5")
    assert len({before.key, headers.key, vulkan.part(LINUX, sdist).key}) == 3


@pytest.mark.usefixtures("sdk")
def test_what_it_is_compiled_with(tools: Tools, sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "unpack", lambda sdist, folder: None)
    part, work = vulkan.part(LINUX, sdist), tmp_path / "work"
    program(tools.cmake, f'printf "%s\\n" "$@" > {tmp_path / "told"}')
    program(tools.ninja, "exit 1")
    with (tmp_path / "log").open("w") as log, pytest.raises(ToolFailed):
        part.build(work, tmp_path / "out", Notes(log))
    words = (tmp_path / "told").read_text().splitlines()
    assert f"-DMKLLM_HEADERS={work / 'headers'}" in words
    assert (work / "headers" / "vulkan" / "vulkan_core.h").exists()
    assert f'set(CMAKE_CXX_COMPILER "{work / "toolchain" / "cxx"}"' in (work / "host.cmake").read_text()


@pytest.mark.usefixtures("sdk", "tools")
def test_disk_full(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.cpp")

    monkeypatch.setattr(vulkan, "unpack", full)
    with (tmp_path / "log").open("w") as log, pytest.raises(NoSpace, match="while writing 'a.cpp'"):
        vulkan.part(LINUX, sdist).build(tmp_path / "work", tmp_path / "out", Notes(log))


def test_only_this_module_may_need_the_loader_of_vulkan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needing = Elf(X86_64, 4096, ("libc.so.6", "libggml-base.so", vulkan.LOADER), frozenset({"GLIBC_2.17"}), None, None)
    monkeypatch.setattr("mkllm.builder.kit.promise.parse", lambda name, data: needing)
    for name in (vulkan.MODULE, "libggml-cpu-x64.so"):
        (tmp_path / name).touch()
    require(LINUX, tmp_path / vulkan.MODULE, vulkan.LINKED)
    with pytest.raises(ToolFailed, match="needs libvulkan.so.1, which not every machine has"):
        require(LINUX, tmp_path / "libggml-cpu-x64.so", {"libggml-base.so"})


LISTS = [
    ("cpu", ()),
    ("vulkan", ("vulkan",)),
    ("cpu, vulkan,vulkan", ("vulkan",)),
    ("vulkan,cuda", ("cuda", "vulkan")),
]


@pytest.mark.parametrize("text,names", LISTS)
def test_backends_in_a_list(text: str, names: tuple[str, ...]) -> None:
    assert optional_backends(text, LINUX) == names


@pytest.mark.parametrize("text", ["rocm", "cpu,rocm", "cpu,,vulkan", ""])
def test_unknown_backends_are_refused(text: str) -> None:
    known = "cpu, cuda, metal, vulkan"
    with pytest.raises(NoKit, match=f"there is no backend called '(rocm|)': those that a kit can have are {known}"):
        optional_backends(text, LINUX)


def test_backends_that_a_target_cannot_have() -> None:
    arm = TARGETS["linux-aarch64"]
    assert optional_backends("cpu", arm) == ()
    with pytest.raises(NoKit, match="^the backend 'cuda' is not made for 'linux-aarch64' yet: leave it out, or choose"):
        optional_backends("vulkan,cuda", arm)


def test_modules_are_backends_and_the_libraries_of_the_engine_are_not() -> None:
    names = {f"native/libggml-{name}.so": name for name in ("cpu-x64", "cuda", "metal", "vulkan")}
    for name in (*names, "native/libggml-base.so", "native/libggml.so", "native/mkllm-engine"):
        found = MODULE.fullmatch(name)
        assert (found and found["backend"]) == names.get(name)
