"""The part `metal`: llama.cpp's Metal backend as one more module, for kits that are built on macOS (spec/kit.md)."""

import sys
from pathlib import Path

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import project, toolchain
from mkllm.builder.kit.part import Part, Report, assembling, digest
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "metal"
MODULE = "libggml-metal.so"
ARCHITECTURE, MACOS = "arm64", "13.3"
SECONDS = 60.0


def part(sdist: Path) -> Part:
    """The part out of the llama-cpp-python sdist, by Apple's compilers. Raises NoKit anywhere but on macOS."""
    if sys.platform != "darwin":
        raise NoKit("the backend 'metal' is compiled on macOS alone, by Apple's compilers: build that kit there")
    tools = toolchain.find_tools()

    def build(work: Path, out: Path, report: Report) -> None:
        places = Places(work)
        with assembling("the backend 'metal'"):
            report.step("compiling the Metal backend")
            unpack(sdist, places.source)
            project.copy(project.files_in(PROJECT), places.project)
            project.configure(tools, places, _settings(places), report)
            project.make("ggml-metal", tools, places, report)
            project.place_module(MODULE, places, out).chmod(0o755)  # it is no ELF file
            project.write_licenses(places, {}, out)
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": f"{ARCHITECTURE} macOS {MACOS}",
        "recipe": digest([HERE / "metal.py", HERE / "project.py", *PROJECT.iterdir()], HERE),
        "clang": run(["clang", "--version"]),
        "cmake": tools.versions()["cmake"],
    }
    return Part("metal", inputs, build, SECONDS)


def _settings(places: Places) -> dict[str, str | Path]:
    flags = project.quoted(project.prefix_maps(places))
    return {
        "CMAKE_OSX_ARCHITECTURES": ARCHITECTURE,
        "CMAKE_OSX_DEPLOYMENT_TARGET": MACOS,
        **{f"CMAKE_{language}_FLAGS": flags for language in ("C", "CXX", "OBJC")},
        "GGML_METAL_EMBED_LIBRARY": "ON",
    }
