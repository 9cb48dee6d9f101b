"""The CUDA part: what it is compiled for and with, what its key depends on, and what its module may need."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from mkllm.builder import process
from mkllm.builder.errors import MissingTool, NoKit, NoSpace, ToolFailed, WrongHash
from mkllm.builder.kit import cuda, cuda_tools, toolchain
from mkllm.builder.kit.elf import Elf
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.promise import require
from mkllm.builder.kit.target import TARGETS, X86_64
from mkllm.builder.kit.toolchain import Tools

ONE = "75-real"
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
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    found = Tools(*(program(tmp_path / name, f"/bin/echo {name} version 1.2.3") for name in ("zig", "cmake", "ninja")))
    monkeypatch.setattr(toolchain, "find_tools", lambda: found)
    monkeypatch.setattr(cuda, "unpack", lambda sdist, folder: None)
    return found


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    path = tmp_path / "source.tar.gz"
    path.write_bytes(b"the source")
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The requirements that pip was given; what it installs is what packages of these names have, without programs."""
    asked: list[list[str]] = []

    def fake(command: list[str | Path], wanted: Iterable[str], log: IO[str]) -> None:
        asked.append(list(wanted))
        packages = Path(command[-1])
        (packages / "nvidia" / "cu13" / "lib").mkdir(parents=True)
        inside = tmp_path / "inside" / cuda_tools.TRIPLE
        program(inside / "bin" / f"{cuda_tools.TRIPLE}-g++", "true")
        archive = packages / "ppbt" / "_toolchain" / cuda_tools.TRIPLE
        archive.parent.mkdir(parents=True)
        shutil.make_archive(str(archive), "xztar", inside.parent)
        archive.with_name(f"{archive.name}.tar.xz.record").write_text("what is in it")

    monkeypatch.setattr(cuda_tools, "pip", fake)
    return asked


def built(sdist: Path, tmp_path: Path, architectures: str = ONE) -> Notes:
    with (tmp_path / "log").open("w") as log:
        notes = Notes(log)
        cuda.part(LINUX, sdist, architectures).build(tmp_path / "work", tmp_path / "out", notes)
    return notes


def test_the_default_serves_every_gpu_from_turing_on() -> None:
    """By code for it or an older one of its generation, else by what the driver compiles; Ada by code of its own."""
    names = cuda.checked(cuda.ARCHITECTURES)
    code = {int(name.removesuffix("-real").rstrip("a")) for name in names if name.endswith("-real")}
    (oldest,) = [int(name.removesuffix("-virtual")) for name in names if name.endswith("-virtual")]
    for gpu in (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121):
        assert gpu >= oldest or any(gpu // 10 == made // 10 and gpu >= made for made in code), gpu
    assert {75, 89, 120} <= code


@pytest.mark.parametrize("text,wrong", [("61", "61"), ("75-real,sm_80", "sm_80"), ("native", "native"), ("", "")])
def test_what_is_no_architecture(text: str, wrong: str) -> None:
    with pytest.raises(NoKit, match=f"^'{wrong}' is no architecture .*: name some from 75 on, such as 75-real,80-real"):
        cuda.checked(text)


@pytest.mark.usefixtures("tools")
def test_the_key_changes_with_the_architectures_and_the_compilers(sdist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, one = cuda.part(LINUX, sdist), cuda.part(LINUX, sdist, ONE)
    assert cuda.part(LINUX, sdist).key == before.key == cuda.part(LINUX, sdist, cuda.ARCHITECTURES).key
    assert one.inputs["version cuda_architectures"] == ONE and one.weight < before.weight
    other = {name: {**entry, "version": "99"} for name, entry in pins()["cuda"].items()}
    monkeypatch.setattr(cuda_tools, "pins", lambda: {"cuda": other})
    assert len({before.key, one.key, cuda.part(LINUX, sdist).key}) == 3
    assert cuda.part(LINUX, sdist).inputs["version cuda"] == "99"


@pytest.mark.usefixtures("installed")
def test_what_it_is_compiled_with(tools: Tools, sdist: Path, tmp_path: Path) -> None:
    part, work = cuda.part(LINUX, sdist, "75-real,90-virtual"), tmp_path / "work"
    program(tools.cmake, f'printf "%s\\n" "$@" > {tmp_path / "told"}')
    program(tools.ninja, "echo 'nvcc error: no such kernel'; exit 1")
    with (
        (tmp_path / "log").open("w") as log,
        pytest.raises(ToolFailed, match="^'ninja' ended with status 1; the whole output is in .*\n.*no such kernel"),
    ):
        part.build(work, tmp_path / "out", Notes(log))
    words = (tmp_path / "told").read_text().splitlines()
    assert "-DCMAKE_CUDA_ARCHITECTURES=75-real;90-virtual" in words
    assert f"-DCMAKE_CUDA_COMPILER={work / 'toolkit/nvidia/cu13/bin/nvcc'}" in words
    assert f"-DCMAKE_CUDA_HOST_COMPILER={work / 'gcc/x86_64-linux-gnu/bin/x86_64-linux-gnu-g++'}" in words
    assert (work / "project" / "cublas" / "cublas_v2.h").exists()


@pytest.mark.usefixtures("tools")
def test_the_compilers_are_fetched_once(installed: list[list[str]], sdist: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ToolFailed, match="cannot be put together: .*libggml-cuda.so"):
            built(sdist, tmp_path)  # these tools make nothing
        shutil.rmtree(tmp_path / "out")
    assert len(installed) == 1 and len(installed[0]) == 6
    assert all("--hash=sha256:" in line for line in installed[0])


@pytest.mark.usefixtures("tools")
def test_a_download_that_fails(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ToolFailed("'python' ended with status 1")

    monkeypatch.setattr(cuda_tools, "pip", failing)
    with pytest.raises(
        MissingTool, match=r"^pip could not get what the backend 'cuda' is compiled with \(nvidia-cuda-"
    ):
        built(sdist, tmp_path)
    assert not (tmp_path / "work" / "toolkit.installed").exists()


@pytest.mark.usefixtures("tools")
def test_another_file_than_the_pinned_one(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "nvidia-cuda-nvcc from somewhere:\n  Expected sha256 1\n       Got        " + "0" * 64

    def run(words: list[str], log: IO[str], on_line: object) -> str:
        assert callable(on_line)
        on_line(f"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n{lines}")
        raise ToolFailed("pip")

    monkeypatch.setattr("mkllm.builder.kit.pip.run", run)
    with pytest.raises(WrongHash, match="'nvidia-cuda-nvcc' arrived with the SHA-256 0000"):
        built(sdist, tmp_path)


@pytest.mark.usefixtures("tools")
def test_disk_full(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.cu")

    monkeypatch.setattr(cuda_tools, "install", full)
    with pytest.raises(NoSpace, match="while writing 'a.cu'"):
        built(sdist, tmp_path)


def test_a_package_without_a_compiler_in_it(installed: list[list[str]], tmp_path: Path) -> None:
    found = cuda_tools.Compilers(tmp_path)
    with pytest.raises(ToolFailed, match="the package 'ppbt' holds no compiler for x86_64-linux-gnu"):
        cuda_tools._unpack(found)


def test_the_environment_tells_the_compiler_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-G")
    assert process.run(["sh", "-c", 'echo "$NVCC_APPEND_FLAGS$NVCC_PREPEND_FLAGS"'], env=cuda.UNTOLD) == "\n"


def test_only_this_module_may_need_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needing = Elf(X86_64, 4096, ("libc.so.6", "libggml-base.so", cuda.DRIVER), frozenset({"GLIBC_2.17"}), None, None)
    monkeypatch.setattr("mkllm.builder.kit.promise.parse", lambda name, data: needing)
    for name in (cuda.MODULE, "libggml-cpu-x64.so"):
        (tmp_path / name).touch()
    require(LINUX, tmp_path / cuda.MODULE, cuda.LINKED)
    with pytest.raises(ToolFailed, match="needs libcuda.so.1, which not every machine has"):
        require(LINUX, tmp_path / "libggml-cpu-x64.so", {"libggml-base.so"})


@pytest.mark.parametrize("library", ["libcublas.so.13", "libcudart.so.13", "libstdc++.so.6"])
def test_what_a_machine_need_not_have(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needing = Elf(X86_64, 4096, ("libc.so.6", cuda.DRIVER, library), frozenset({"GLIBC_2.17"}), None, None)
    monkeypatch.setattr("mkllm.builder.kit.promise.parse", lambda name, data: needing)
    for name in (cuda.MODULE, "libggml-cpu-x64.so"):
        (tmp_path / name).touch()
    with pytest.raises(ToolFailed, match=f"needs {library}".replace("+", r"\+")):
        require(LINUX, tmp_path / cuda.MODULE, cuda.LINKED)
