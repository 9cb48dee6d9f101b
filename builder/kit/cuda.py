"""The part `cuda`: llama.cpp's CUDA backend as one more module, for NVIDIA's GPUs from Turing on (spec/kit.md).

Neither CUDA nor cuBLAS is needed where it runs, only the driver. It knows nothing of the other parts.
"""

import errno
import re
import shutil
from pathlib import Path

from mkllm.builder.errors import NoKit, NoSpace, ToolFailed
from mkllm.builder.kit import cuda_tools, native, toolchain
from mkllm.builder.kit.cuda_tools import Compilers
from mkllm.builder.kit.elf import read_elf, require
from mkllm.builder.kit.native_licenses import license_text
from mkllm.builder.kit.part import VERSION, Part, Report, digest
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.toolchain import GLIBC, Tools
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "cuda"
MODULE = "libggml-cuda.so"
DRIVER = "libcuda.so.1"
LINKED = frozenset({"libggml-base.so", DRIVER})
LIBRARIES = native.SYSTEM_LIBRARIES | LINKED
# Code for Turing (7.5), for Ampere (8.0, which runs on 8.6), for Ada (8.9, where ggml starts a kernel for mixtures of
# experts with more threads than code for 8.0 allows) and for Blackwell's cards (12.0, whose FP4 is theirs alone). What
# the driver of any other GPU, Hopper's and later ones, compiles when it is first used.
ARCHITECTURES = "75-real,80-real,89-real,90-virtual,120a-real"
ARCHITECTURE = re.compile(r"(?P<number>\d{2,3})[af]?(-real|-virtual)?")
OLDEST = 75
SECONDS = 2400.0  # for each architecture
# What the user's environment would tell nvcc.
UNTOLD = {"NVCC_PREPEND_FLAGS": "", "NVCC_APPEND_FLAGS": ""}


def part(sdist: Path, architectures: str | None = None) -> Part:
    """The part out of the llama-cpp-python sdist, for these GPUs (as CMake names them, with commas between).

    Raises MissingTool when it could not be built here, NoKit for what is no such list.
    """
    tools, names = toolchain.find_tools(), checked(architectures or ARCHITECTURES)

    def build(work: Path, out: Path, report: Report) -> None:
        places = native.Places(work)
        try:
            compilers = cuda_tools.install(work, report)
            report.step("unpacking llama.cpp for CUDA")
            unpack(sdist, places.source)
            _copy_project(places)
            report.step("configuring the CUDA backend")
            _configure(tools, compilers, names, places, report)
            report.step(f"compiling the CUDA backend for {', '.join(names)}")
            _compile(tools, places, report)
            _place(compilers, places, out)
        except OSError as error:
            raise _translated(error) from None
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": toolchain.TARGETS[native.TARGET],
        "recipe": digest(_recipe(), HERE),
        VERSION + "cuda_architectures": " ".join(names),
        **cuda_tools.versions(),
        **{name: text for name, text in tools.versions().items() if name != "zig"},
    }
    return Part("cuda", inputs, build, SECONDS * len(names))


def checked(text: str) -> tuple[str, ...]:
    """The architectures of a list such as `75-real,90-virtual`. Raises NoKit for one that is none, or too old."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        found = ARCHITECTURE.fullmatch(name)
        if found is None or int(found["number"]) < OLDEST:
            raise NoKit(
                f"{name!r} is no architecture that the backend 'cuda' can be compiled for: name some from {OLDEST} on, "
                f"such as {ARCHITECTURES}"
            )
    return names


def _translated(error: OSError) -> Exception:
    if error.errno == errno.ENOSPC:
        return NoSpace(f"no space left while writing {error.filename!r}: free some and run the command again")
    return ToolFailed(f"the backend 'cuda' cannot be put together: {error}")


def _recipe() -> list[Path]:
    return [HERE / "cuda.py", HERE / "cuda_tools.py", *(path for path in PROJECT.rglob("*") if path.is_file())]


def _copy_project(places: native.Places) -> None:
    """Ours beside the sources, so that no path of this machine gets into the module; what is the same is kept."""
    for source in (path for path in PROJECT.rglob("*") if path.is_file()):
        target = places.project / source.relative_to(PROJECT)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _configure(
    tools: Tools, compilers: Compilers, names: tuple[str, ...], places: native.Places, report: Report
) -> None:
    llama = places.source / "vendor" / "llama.cpp"
    folders = {llama: "llama.cpp", places.project: "mkllm", places.build: "build"}
    maps = {**folders, compilers.packages: "cuda", compilers.gcc: "gcc"}
    words = [f"-ffile-prefix-map={path}={name}" for path, name in maps.items()]
    flags = " ".join(f'"{word}"' for word in words)
    settings = {
        "CMAKE_MAKE_PROGRAM": tools.ninja,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "x86_64",
        "CMAKE_C_COMPILER": compilers.gnu("gcc"),
        "CMAKE_CXX_COMPILER": compilers.gnu("g++"),
        "CMAKE_CUDA_COMPILER": compilers.nvcc,
        "CMAKE_CUDA_HOST_COMPILER": compilers.gnu("g++"),
        "CMAKE_AR": compilers.gnu("ar"),
        "CMAKE_RANLIB": compilers.gnu("ranlib"),
        "CMAKE_CUDA_ARCHITECTURES": ";".join(names),
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "CMAKE_CUDA_FLAGS": " ".join(f'"-Xcompiler={word}"' for word in words),
        "MKLLM_LLAMA_SOURCE": llama,
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    args: list[str | Path] = [tools.cmake, "-G", "Ninja", "-S", places.project, "-B", places.build, *defines]
    run(args, env=UNTOLD, log=report.log)


def _compile(tools: Tools, places: native.Places, report: Report) -> None:
    run(
        [tools.ninja, "-C", places.build, "ggml-cuda"],
        env={**UNTOLD, "NINJA_STATUS": "[%f/%t] "},
        log=report.log,
        on_line=native.step_reporter(report.progress),
    )


def _place(compilers: Compilers, places: native.Places, out: Path) -> None:
    """The module, checked against what the kit promises, and the licences of what is linked into it."""
    module, licenses = out / "native" / MODULE, out / "licenses"
    for folder in (module.parent, licenses):
        folder.mkdir(parents=True)
    shutil.copyfile(places.build / "bin" / MODULE, module)
    module.chmod(0o755)
    require(module, GLIBC, LIBRARIES)
    if missing := LINKED - set(read_elf(module).needed):
        raise ToolFailed(f"{MODULE!r} does not ask for {', '.join(sorted(missing))}: it was linked without their names")
    llama = license_text(places.source / "vendor" / "llama.cpp" / "LICENSE", None)
    for name, text in {"llama.cpp": llama, **compilers.licenses()}.items():
        (licenses / f"{name}.txt").write_text(text, "utf-8")
