"""The part `cuda`: llama.cpp's CUDA backend as one more module, for NVIDIA's GPUs from Turing on (spec/kit.md).

Neither CUDA nor cuBLAS is needed where it runs, only the driver. It knows nothing of the other parts.
"""

import re
from pathlib import Path

from mkllm.builder.errors import NoKit, ToolFailed
from mkllm.builder.kit import cuda_tools, project, promise, toolchain
from mkllm.builder.kit.cuda_tools import Compilers
from mkllm.builder.kit.elf import read_elf
from mkllm.builder.kit.part import VERSION, Part, Report, assembling, digest
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.target import Target

HERE = Path(__file__).parent
PROJECT = HERE / "cuda"
MODULE = "libggml-cuda.so"
DRIVER = "libcuda.so.1"
LINKED = frozenset({"libggml-base.so", DRIVER})
# Code for Turing (7.5), for Ampere (8.0, which runs on 8.6), for Ada (8.9, where ggml starts a kernel for mixtures of
# experts with more threads than code for 8.0 allows) and for Blackwell's cards (12.0, whose FP4 is theirs alone). What
# the driver of any other GPU, Hopper's and later ones, compiles when it is first used.
ARCHITECTURES = "75-real,80-real,89-real,90-virtual,120a-real"
ARCHITECTURE = re.compile(r"(?P<number>\d{2,3})[af]?(-real|-virtual)?")
OLDEST = 75
SECONDS = 2400.0  # for each architecture
# What the user's environment would tell nvcc.
UNTOLD = {"NVCC_PREPEND_FLAGS": "", "NVCC_APPEND_FLAGS": ""}


def part(target: Target, sdist: Path, architectures: str | None = None) -> Part:
    """The part out of the llama-cpp-python sdist, for these GPUs (as CMake names them, with commas between).

    Raises MissingTool when it could not be built here, NoKit for what is no such list.
    """
    tools, names = toolchain.find_tools(), checked(architectures or ARCHITECTURES)

    def build(work: Path, out: Path, report: Report) -> None:
        places = Places(work)
        with assembling("the backend 'cuda'"):
            compilers = cuda_tools.install(work, report)
            report.step("unpacking llama.cpp for CUDA")
            unpack(sdist, places.source)
            project.copy(project.files_in(PROJECT), places.project)
            report.step("configuring the CUDA backend")
            project.configure(tools, places, _settings(target, compilers, names, places), report, UNTOLD)
            report.step(f"compiling the CUDA backend for {', '.join(names)}")
            project.make("ggml-cuda", tools, places, report, UNTOLD)
            _place(target, compilers, places, out)
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": repr(target),
        "recipe": digest(_recipe(), HERE),
        VERSION + "cuda_architectures": " ".join(names),
        **cuda_tools.versions(),
        **{name: text for name, text in tools.versions().items() if name != "zig"},
    }
    return Part("cuda", inputs, build, SECONDS * len(names), target.name)


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


def _recipe() -> list[Path]:
    modules = ("cuda.py", "cuda_tools.py", "project.py")
    return [HERE / name for name in modules] + list(project.files_in(PROJECT).values())


def _settings(target: Target, compilers: Compilers, names: tuple[str, ...], places: Places) -> dict[str, str | Path]:
    words = project.prefix_maps(places, {compilers.packages: "cuda", compilers.gcc: "gcc"})
    flags = project.quoted(words)
    return {
        **project.system(target),
        "CMAKE_C_COMPILER": compilers.gnu("gcc"),
        "CMAKE_CXX_COMPILER": compilers.gnu("g++"),
        "CMAKE_CUDA_COMPILER": compilers.nvcc,
        "CMAKE_CUDA_HOST_COMPILER": compilers.gnu("g++"),
        "CMAKE_AR": compilers.gnu("ar"),
        "CMAKE_RANLIB": compilers.gnu("ranlib"),
        "CMAKE_CUDA_ARCHITECTURES": ";".join(names),
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "CMAKE_CUDA_FLAGS": project.quoted([f"-Xcompiler={word}" for word in words]),
    }


def _place(target: Target, compilers: Compilers, places: Places, out: Path) -> None:
    """The module, checked against what the kit promises, and the licences of what is linked into it."""
    module = project.place_module(MODULE, places, out)
    promise.require(target, module, LINKED)
    if missing := LINKED - set(read_elf(module).needed):
        raise ToolFailed(f"{MODULE!r} does not ask for {', '.join(sorted(missing))}: it was linked without their names")
    project.write_licenses(places, compilers.licenses(), out)
