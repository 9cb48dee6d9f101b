"""The native part: llama.cpp's engine and its modules, compiled by zig out of the llama-cpp-python sdist (spec/kit.md).

It knows what is compiled and how; which flags and which sources is said in native/CMakeLists.txt.
"""

import errno
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import NoSpace, ToolFailed
from mkllm.builder.kit import toolchain
from mkllm.builder.kit.elf import is_elf, require
from mkllm.builder.kit.native_licenses import write_licenses
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.toolchain import GLIBC, Tools
from mkllm.builder.kit.variants import resolve
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "native"
TARGET = "linux-x86_64"
PROJECT_FILES = (
    "CMakeLists.txt",
    "layout.cpp",
    "layout.h",
    "main.cpp",
    "measure.cpp",
    "memory.cpp",
    "memory.h",
    "mkllm.h",
    "prepack.cpp",
    "prepacked.cpp",
    "prepacked.h",
    "repack.cpp",
    "repack.h",
    "sgemm_quants.cpp",
    "shim.cpp",
    "slice.cpp",
    "start.cpp",
    "waiting.h",
)
ENGINE = "mkllm-engine"
LIBRARIES = ("libggml-base.so", "libggml.so")
BINDINGS = ("llama_cpp.py", "_ctypes_extensions.py", "py.typed")
SYSTEM_LIBRARIES = frozenset(
    f"{name}.so.{number}"
    for name, number in {"libc": 6, "libm": 6, "libpthread": 0, "libdl": 2, "librt": 1, "ld-linux-x86-64": 2}.items()
)
STEP = re.compile(r"^\[(\d+)/(\d+)\] ")
SECONDS_COMMON, SECONDS_VARIANT = 420.0, 40.0


@dataclass(frozen=True)
class Places:
    """Folders inside `work`; all of it may be deleted at any time, at the price of compiling again."""

    work: Path

    @property
    def source(self) -> Path:
        return self.work / "source"

    @property
    def project(self) -> Path:
        return self.work / "project"

    @property
    def wrappers(self) -> Path:
        return self.work / "toolchain"

    @property
    def build(self) -> Path:
        return self.work / "build"


def part(variants: str, sdist: Path) -> Part:
    """The part for `all` variants or those of the `host`, out of the llama-cpp-python sdist.

    Raises MissingTool when it could not be built here. Both choices share one work folder, and so their objects.
    """
    tools, names = toolchain.find_tools(), resolve(variants)

    def build(work: Path, out: Path, report: Report) -> None:
        _build(sdist, names, tools, Places(work), out, report)

    inputs = {
        "sdist": sha256(sdist),
        "target": toolchain.TARGETS[TARGET],
        "variants": " ".join(names),
        "recipe": digest(_recipe(), HERE),
        **tools.versions(),
    }
    return Part("native", inputs, build, SECONDS_COMMON + SECONDS_VARIANT * len(names))


def _recipe() -> list[Path]:
    modules = ("native.py", "native_licenses.py", "toolchain.py")
    return [HERE / name for name in modules] + [path for path in PROJECT.rglob("*") if path.is_file()]


def _build(sdist: Path, variants: tuple[str, ...], tools: Tools, places: Places, out: Path, report: Report) -> None:
    try:
        report.step("unpacking llama.cpp")
        unpack(sdist, places.source)
        _copy_project(places.project)
        report.step("configuring llama.cpp")
        _configure(variants, tools, places, report)
        report.step(f"compiling the engine and {len(variants)} CPU variants")
        _compile(tools, places, report)
        _place(variants, tools, places, out)
    except OSError as error:
        raise _translated(error) from None
    report.progress(1.0)


def _translated(error: OSError) -> Exception:
    if error.errno == errno.ENOSPC:
        return NoSpace(
            f"no space left on the disk while writing {error.filename!r}: free some and run the command again"
        )
    return ToolFailed(f"the native part cannot be put together: {error}")


def _copy_project(folder: Path) -> None:
    """Beside the sources, so that no path of the installed mkllm gets into a command line; what is the same is kept."""
    folder.mkdir(exist_ok=True)
    for name in PROJECT_FILES:
        source, target = PROJECT / name, folder / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)


def _configure(variants: tuple[str, ...], tools: Tools, places: Places, report: Report) -> None:
    programs = toolchain.write_wrappers(tools.zig, TARGET, places.wrappers)
    llama = places.source / "vendor" / "llama.cpp"
    maps = {llama: "llama.cpp", places.project: "mkllm", places.build: "build"}
    flags = " ".join(f'"-ffile-prefix-map={path}={name}"' for path, name in maps.items())
    settings = {
        "CMAKE_MAKE_PROGRAM": tools.ninja,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "x86_64",
        "CMAKE_C_COMPILER": programs["cc"],
        "CMAKE_CXX_COMPILER": programs["cxx"],
        "CMAKE_AR": programs["ar"],
        "CMAKE_RANLIB": programs["ranlib"],
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "MKLLM_LLAMA_SOURCE": llama,
        "MKLLM_LLAMA_VERSION": (places.source / "PKG-INFO").read_text().partition("\nVersion: ")[2].split()[0],
        "MKLLM_VARIANTS": ";".join(variants),
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    args: list[str | Path] = [tools.cmake, "-G", "Ninja", "-S", places.project, "-B", places.build, *defines]
    run(args, env=toolchain.environment(), log=report.log)


def _compile(tools: Tools, places: Places, report: Report) -> None:
    run(
        [tools.ninja, "-C", places.build, "mkllm"],
        env={**toolchain.environment(), "NINJA_STATUS": "[%f/%t] "},
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


def _place(variants: tuple[str, ...], tools: Tools, places: Places, out: Path) -> None:
    """Everything into `out`, each ELF file checked against what the kit promises."""
    program, modules = places.build / "bin", [f"libggml-cpu-{name}.so" for name in variants]
    native, bindings = out / "native", out / "bindings" / "llama_cpp"
    for name in (ENGINE, *LIBRARIES, *modules):
        _copy(program / name, native / name)
    for name in ("libllama.so", "libmtmd.so"):
        _copy(places.build / "bindings" / name, bindings / "lib" / name)
    for name in BINDINGS:
        _copy(places.source / "llama_cpp" / name, bindings / name)
    # Upstream's own imports numpy and everything else; the ctypes module needs neither.
    (bindings / "__init__.py").write_text('"""The ctypes bindings alone; `llama_cpp.llama_cpp` is the module."""\n')
    write_licenses(places.source, toolchain.zig_licenses(tools.zig), out / "licenses")
    ours = {*LIBRARIES, "libllama.so", "libmtmd.so"}
    for path in sorted(out.rglob("*")):
        if path.is_file() and is_elf(path):
            require(path, GLIBC, SYSTEM_LIBRARIES | ours)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if is_elf(target) else 0o644)
