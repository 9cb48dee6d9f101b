"""zig, cmake and ninja: where they are, and zig as a C and C++ compiler for one target; knows no project to compile."""

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import MissingTool, ToolFailed
from mkllm.builder.kit.target import Target
from mkllm.builder.process import run

INSTALL = "run `pip install 'mkllm[kit]'`"


@dataclass(frozen=True)
class Tools:
    """The programs that a kit is compiled with."""

    zig: Path
    cmake: Path
    ninja: Path

    def versions(self) -> dict[str, str]:
        """What each program says of itself. Raises MissingTool for one that does not run."""
        return {
            "zig": _first_line([self.zig, "version"]),
            "cmake": _first_line([self.cmake, "--version"]).removeprefix("cmake version "),
            "ninja": _first_line([self.ninja, "--version"]),
        }


def find_tools() -> Tools:
    """Each from its installed package, else from PATH. Raises MissingTool."""
    return Tools(zig=find_zig(), cmake=_find("cmake", "cmake"), ninja=_find("ninja", "ninja"))


def find_zig() -> Path:
    """zig of the `ziglang` package, else from PATH. Raises MissingTool."""
    return _find("zig", "ziglang")


def zig_licenses(zig: Path) -> dict[str, Path]:
    """Licence files, by component, of what zig links statically into what it compiles."""
    lib = zig.parent / "lib"
    return {
        "zig": zig.parent / "LICENSE",
        "libcxx": lib / "libcxx" / "LICENSE.TXT",
        "libcxxabi": lib / "libcxxabi" / "LICENSE.TXT",
        "libunwind": lib / "libunwind" / "LICENSE.TXT",
    }


def environment() -> dict[str, str]:
    """Where zig keeps what it compiles of its own libraries: once for all builds."""
    place = str(cache.folder("zig"))
    return {"ZIG_GLOBAL_CACHE_DIR": place, "ZIG_LOCAL_CACHE_DIR": place}


def write_wrappers(zig: Path, target: Target, folder: Path) -> Mapping[str, Path]:
    """Programs `cc`, `cxx`, `ar` and `ranlib` for a target, as build systems want them: one word each."""
    folder.mkdir(parents=True, exist_ok=True)
    always = ["-target", target.zig, f"-ffile-prefix-map={zig.parent}=zig"]
    words = {"cc": ["cc", *always], "cxx": ["c++", *always], "ar": ["ar"], "ranlib": ["ranlib"]}
    return {name: _write_wrapper(folder / name, [str(zig), *args]) for name, args in words.items()}


def _write_wrapper(path: Path, words: list[str]) -> Path:
    """Written only when it differs: a newer compiler would make the build system compile everything again."""
    text = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(0o755)
    return path


def _find(program: str, package: str) -> Path:
    found = _in_package(program, package) or shutil.which(program)
    if not found:
        raise MissingTool(f"the program {program!r} is missing: {INSTALL}")
    return Path(found)


def _in_package(program: str, package: str) -> Path | None:
    """The package's own executable rather than a script that starts it through Python."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    paths = (Path(os.path.normpath(str(file.locate()))) for file in files if file.name == program)
    usable = [path for path in paths if path.is_file() and os.access(path, os.X_OK)]
    return max(usable, key=lambda path: path.stat().st_size, default=None)


def _first_line(args: list[Path | str]) -> str:
    try:
        return run(args).splitlines()[0].strip()
    except (ToolFailed, IndexError):
        raise MissingTool(f"the program {str(args[0])!r} does not tell its version: {INSTALL}") from None
