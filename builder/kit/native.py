"""The native part: llama.cpp's engine and its modules, compiled by zig out of the llama-cpp-python sdist (spec/kit.md).

It knows what is compiled and how; which flags and which sources is said in native/CMakeLists.txt.
"""

from pathlib import Path

from mkllm.builder.kit import project, promise, toolchain
from mkllm.builder.kit.elf import is_elf
from mkllm.builder.kit.native_licenses import write_licenses
from mkllm.builder.kit.part import Part, Report, assembling, digest
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.target import Target
from mkllm.builder.kit.toolchain import Tools
from mkllm.builder.kit.variants import resolve

HERE = Path(__file__).parent
PROJECT = HERE / "native"
NOT_COMPILED = "licenses.toml"
ENGINE = "mkllm-engine"
LIBRARIES = ("ggml-base", "ggml")
FOR_PYTHON = ("llama", "mtmd")
BINDINGS = ("llama_cpp.py", "_ctypes_extensions.py", "py.typed")
SECONDS_COMMON, SECONDS_VARIANT = 420.0, 40.0


def part(target: Target, variants: str, sdist: Path) -> Part:
    """The part for the variants of that choice (`variants.resolve`), out of the llama-cpp-python sdist.

    Raises MissingTool when it could not be built here. All choices for one target share a work folder, and so their
    objects.
    """
    tools, names = toolchain.find_tools(), resolve(target, variants)

    def build(work: Path, out: Path, report: Report) -> None:
        places = Places(work)
        with assembling("the native part"):
            report.step("unpacking llama.cpp")
            unpack(sdist, places.source)
            project.copy(_project(), places.project)
            report.step("configuring llama.cpp")
            project.configure(tools, places, _settings(target, names, tools, places), report)
            report.step(f"compiling the engine and {len(names)} CPU variants")
            project.make("mkllm", tools, places, report)
            _place(target, names, tools, places, out)
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": repr(target),
        "variants": " ".join(names),
        "recipe": digest(_recipe(), HERE),
        **tools.versions(),
    }
    return Part("native", inputs, build, SECONDS_COMMON + SECONDS_VARIANT * len(names), target.name)


def _recipe() -> list[Path]:
    modules = ("native.py", "native_licenses.py", "project.py", "toolchain.py")
    return [HERE / name for name in modules] + list(project.files_in(PROJECT).values())


def _project() -> dict[str, Path]:
    return {name: path for name, path in project.files_in(PROJECT).items() if name != NOT_COMPILED}


def _settings(target: Target, variants: tuple[str, ...], tools: Tools, places: Places) -> dict[str, str | Path]:
    flags = project.quoted(project.prefix_maps(places))
    return {
        **project.system(target),
        **project.compilers(target, tools, places),
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "MKLLM_LLAMA_VERSION": (places.source / "PKG-INFO").read_text().partition("\nVersion: ")[2].split()[0],
        "MKLLM_VARIANTS": ";".join(variants),
    }


def _place(target: Target, variants: tuple[str, ...], tools: Tools, places: Places, out: Path) -> None:
    """Everything into `out`, each file checked against what the kit promises."""
    bindings = out / "bindings" / "llama_cpp"
    libraries = [target.library(name) for name in LIBRARIES]
    for_python = [target.library(name) for name in FOR_PYTHON]
    modules = [target.library(f"ggml-cpu-{name}") for name in variants]
    for name in (target.program(ENGINE), *libraries, *modules):
        project.place(places.made / name, out / "native" / name)
    for name in for_python:
        project.place(places.build / "bindings" / name, bindings / "lib" / name)
    for name in BINDINGS:
        project.place(places.source / "llama_cpp" / name, bindings / name)
    # Upstream's own imports numpy and everything else; the ctypes module needs neither.
    (bindings / "__init__.py").write_text('"""The ctypes bindings alone; `llama_cpp.llama_cpp` is the module."""\n')
    write_licenses(places.source, toolchain.zig_licenses(tools.zig), out / "licenses")
    for path in sorted(out.rglob("*")):
        if path.is_file() and is_elf(path):
            promise.require(target, path, {*libraries, *for_python})
