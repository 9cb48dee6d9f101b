"""The part `metal`: llama.cpp's Metal backend as one more module, for kits that are built on macOS (spec/kit.md)."""

import shutil
import sys
from pathlib import Path

from mkllm.builder.errors import NoKit, ToolFailed
from mkllm.builder.kit import native, toolchain
from mkllm.builder.kit.native_licenses import license_text
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.toolchain import Tools
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
        places = native.Places(work)
        try:
            report.step("compiling the Metal backend")
            unpack(sdist, places.source)
            _compile(tools, places, report)
            _place(places, out)
        except OSError as error:
            raise ToolFailed(f"the backend 'metal' cannot be put together: {error}") from None
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": f"{ARCHITECTURE} macOS {MACOS}",
        "recipe": digest([HERE / "metal.py", *PROJECT.iterdir()], HERE),
        "clang": run(["clang", "--version"]),
        "cmake": tools.versions()["cmake"],
    }
    return Part("metal", inputs, build, SECONDS)


def _compile(tools: Tools, places: native.Places, report: Report) -> None:
    llama = places.source / "vendor" / "llama.cpp"
    flags = " ".join(f'"-ffile-prefix-map={path}={name}"' for path, name in {llama: "llama.cpp", HERE: "mkllm"}.items())
    settings = {
        "CMAKE_MAKE_PROGRAM": tools.ninja,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_OSX_ARCHITECTURES": ARCHITECTURE,
        "CMAKE_OSX_DEPLOYMENT_TARGET": MACOS,
        **{f"CMAKE_{language}_FLAGS": flags for language in ("C", "CXX", "OBJC")},
        "MKLLM_LLAMA_SOURCE": llama,
        "GGML_METAL_EMBED_LIBRARY": "ON",
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    run([tools.cmake, "-G", "Ninja", "-S", PROJECT, "-B", places.build, *defines], log=report.log)
    run(
        [tools.ninja, "-C", places.build, "ggml-metal"],
        env={"NINJA_STATUS": "[%f/%t] "},
        log=report.log,
        on_line=native.step_reporter(report.progress),
    )


def _place(places: native.Places, out: Path) -> None:
    module, licenses = out / "native" / MODULE, out / "licenses"
    for folder in (module.parent, licenses):
        folder.mkdir(parents=True)
    shutil.copyfile(places.build / "bin" / MODULE, module)
    module.chmod(0o755)
    text = license_text(places.source / "vendor" / "llama.cpp" / "LICENSE", None)
    (licenses / "llama.cpp.txt").write_text(text, "utf-8")
