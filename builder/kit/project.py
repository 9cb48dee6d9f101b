"""A CMake project of ours beside llama.cpp's source: its folders, how it is configured and compiled, its module.

Every part that is compiled so has one; what is compiled, for what and with which flags, the part says.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.kit import toolchain
from mkllm.builder.kit.elf import is_elf
from mkllm.builder.kit.native_licenses import license_text
from mkllm.builder.kit.part import Report
from mkllm.builder.kit.target import Target
from mkllm.builder.kit.toolchain import Tools
from mkllm.builder.process import run
from mkllm.runtime.artifact.macho import is_macho

STEP = re.compile(r"^\[(\d+)/(\d+)\] ")


@dataclass(frozen=True)
class Places:
    """Folders inside `work`; all of it may be deleted at any time, at the price of compiling again."""

    work: Path

    @property
    def source(self) -> Path:
        """The unpacked sdist of llama-cpp-python."""
        return self.work / "source"

    @property
    def llama(self) -> Path:
        return self.source / "vendor" / "llama.cpp"

    @property
    def project(self) -> Path:
        return self.work / "project"

    @property
    def wrappers(self) -> Path:
        return self.work / "toolchain"

    @property
    def build(self) -> Path:
        return self.work / "build"

    @property
    def made(self) -> Path:
        """Where libraries and programs arrive."""
        return self.build / "bin"


def files_in(folder: Path) -> dict[str, Path]:
    """Every file in a folder and below, by its relative name."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def copy(files: Mapping[str, Path], folder: Path) -> None:
    """Into `folder`, which lies beside the sources, so that no other path of this machine gets into what is compiled.
    What is the same is kept, and not compiled again."""
    for name, source in files.items():
        target = folder / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def prefix_maps(places: Places, more: Mapping[Path, str] | None = None) -> list[str]:
    """Flags by which folders of this machine get other names in what is compiled."""
    maps = {places.llama: "llama.cpp", places.project: "mkllm", places.build: "build", **(more or {})}
    return [f"-ffile-prefix-map={path}={name}" for path, name in maps.items()]


def quoted(words: list[str]) -> str:
    """As CMake wants several words in one setting."""
    return " ".join(f'"{word}"' for word in words)


def compilers(target: Target, tools: Tools, places: Places) -> dict[str, Path]:
    """CMake's names of zig's programs for a target."""
    programs = toolchain.write_wrappers(tools.zig, target, places.wrappers)
    return {
        "CMAKE_C_COMPILER": programs["cc"],
        "CMAKE_CXX_COMPILER": programs["cxx"],
        "CMAKE_AR": programs["ar"],
        "CMAKE_RANLIB": programs["ranlib"],
    }


def system(target: Target) -> dict[str, str]:
    """What CMake must know of the target."""
    apple = {"CMAKE_OSX_SYSROOT": ""} if target.macos else {}  # zig has what it needs of Apple's
    return {"CMAKE_SYSTEM_NAME": target.system, "CMAKE_SYSTEM_PROCESSOR": target.machine, **apple}


def configure(
    tools: Tools,
    places: Places,
    settings: Mapping[str, str | Path],
    report: Report,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run CMake with these settings and those that all projects have."""
    common = {
        "CMAKE_MAKE_PROGRAM": tools.ninja,
        "CMAKE_BUILD_TYPE": "Release",
        "MKLLM_LLAMA_SOURCE": places.llama,
    }
    defines = [f"-D{name}={value}" for name, value in {**common, **settings}.items()]
    words: list[str | Path] = [tools.cmake, "-G", "Ninja", "-S", places.project, "-B", places.build, *defines]
    run(words, env=environment or toolchain.environment(), log=report.log)


def make(goal: str, tools: Tools, places: Places, report: Report, environment: Mapping[str, str] | None = None) -> None:
    """Compile what CMake calls `goal`; its progress is the report's."""
    run(
        [tools.ninja, "-C", places.build, goal],
        env={**(environment or toolchain.environment()), "NINJA_STATUS": "[%f/%t] "},
        log=report.log,
        on_line=step_reporter(report.progress),
    )


def step_reporter(progress: Callable[[float], None]) -> Callable[[str], None]:
    """Turns ninja's `[n/m]` lines into a fraction."""

    def on_line(line: str) -> None:
        if found := STEP.match(line):
            done, total = map(int, found.groups())
            progress(done / total)

    return on_line


def place(source: Path, target: Path) -> Path:
    """A file into its folder, which may be new; what is compiled may be executed. Returns `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if is_elf(target) or is_macho(target.read_bytes()) else 0o644)
    return target


def place_module(name: str, places: Places, out: Path) -> Path:
    """A backend's module into a part; returns where it lies now."""
    return place(places.made / name, out / "native" / name)


def write_licenses(places: Places, texts: Mapping[str, str], out: Path) -> None:
    """The licences of a module: llama.cpp's, and those of what else is compiled into it, text by component."""
    folder = out / "licenses"
    folder.mkdir()
    for component, text in {"llama.cpp": license_text(places.llama / "LICENSE", None), **texts}.items():
        (folder / f"{component}.txt").write_text(text, "utf-8")
