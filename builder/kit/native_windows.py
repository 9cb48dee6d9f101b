"""The native part for Windows: the same sources and flags as for Linux, without bindings for the builder (spec/kit.md).

What differs is what CMake asks for, and that the engine tells Windows what it promises.
"""

from pathlib import Path

from mkllm.builder.kit import exe_resources, native, project, promise, toolchain
from mkllm.builder.kit.native_licenses import write_licenses
from mkllm.builder.kit.part import Part, Report, assembling, digest
from mkllm.builder.kit.pe import with_resources
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.sdist import unpack
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.kit.toolchain import Tools
from mkllm.builder.kit.variants import resolve

HERE = Path(__file__).parent
TARGET = TARGETS["windows-x86_64"]
RECIPE = ("native_windows.py", "exe_resources.py", "pe.py")


def part(variants: str, sdist: Path) -> Part:
    """The part for the variants of that choice, out of the llama-cpp-python sdist. Raises MissingTool."""
    same, tools, names = native.part(TARGET, variants, sdist), toolchain.find_tools(), resolve(TARGET, variants)

    def build(work: Path, out: Path, report: Report) -> None:
        places = Places(work)
        with assembling("the native part"):
            report.step("unpacking llama.cpp")
            unpack(sdist, places.source)
            project.copy(native._project(), places.project)
            report.step("configuring llama.cpp for Windows")
            settings = native._settings(TARGET, names, tools, places)
            project.configure(tools, places, {**settings, "CMAKE_RC_COMPILER": _resource_compiler(places)}, report)
            report.step(f"compiling the engine and {len(names)} CPU variants for Windows")
            project.make("mkllm", tools, places, report)
            _place(names, tools, places, out)
        report.progress(1.0)

    inputs = {**same.inputs, "for windows": digest([HERE / name for name in RECIPE], HERE)}
    return Part(same.name, inputs, build, same.weight, TARGET.name)


def _resource_compiler(places: Places) -> Path:
    """A program that CMake asks for when it compiles for Windows, and then never runs."""
    program = places.wrappers / "rc"
    program.unlink(missing_ok=True)
    program.symlink_to("cc")
    return program


def _place(variants: tuple[str, ...], tools: Tools, places: Places, out: Path) -> None:
    """Everything into `out`, each file checked against what the kit promises."""
    libraries = [TARGET.library(name) for name in native.LIBRARIES]
    modules = [TARGET.library(f"ggml-cpu-{name}") for name in variants]
    for name in (TARGET.program(native.ENGINE), *libraries, *modules):
        project.place(places.made / name, out / "native" / name)
    engine = out / "native" / TARGET.program(native.ENGINE)
    engine.write_bytes(with_resources(engine.name, engine.read_bytes(), exe_resources.promises()))
    write_licenses(places.source, toolchain.zig_licenses(tools.zig), out / "licenses")
    for path in sorted((out / "native").iterdir()):
        promise.require(TARGET, path, set(libraries))
