"""The part `vulkan`: llama.cpp's Vulkan backend as one more module, and what it is compiled with (spec/kit.md).

It needs a compiler of shaders and headers, which PyPI does not have; all else is what the native part is compiled with.
The two parts know nothing of each other: one can be built anew without the other.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import MissingTool, ToolFailed
from mkllm.builder.kit import project, promise, toolchain
from mkllm.builder.kit.elf import read_elf
from mkllm.builder.kit.native_licenses import license_text
from mkllm.builder.kit.part import VERSION, Part, Report, assembling, digest
from mkllm.builder.kit.project import Places
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.target import Target
from mkllm.builder.kit.toolchain import Tools
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "vulkan"
PROJECT_FILES = ("CMakeLists.txt", "older/vulkan/vulkan.hpp")
MODULE = "libggml-vulkan.so"
LOADER = "libvulkan.so.1"
LINKED = frozenset({"libggml-base.so", LOADER})
HEADERS = ("vulkan", "vk_video", "spirv")
SPIRV_HEADER = "unified1/spirv.hpp"
NEEDED_HEADERS = ("vulkan/vulkan.hpp", f"spirv/{SPIRV_HEADER}")
SYSTEM_HEADERS = (Path("/usr/local/include"), Path("/usr/include"))
HEADER_VERSION = re.compile(r"#define VK_HEADER_VERSION (\d+)")
INSTALL = "install glslc, libvulkan-dev and spirv-headers (so Debian calls them), or name a Vulkan SDK by VULKAN_SDK"
SECONDS = 300.0


@dataclass(frozen=True)
class Shaders:
    """What this machine has for Vulkan: the compiler of shaders, and the folders of headers by name."""

    glslc: Path
    headers: Mapping[str, Path]

    def versions(self) -> dict[str, str]:
        """What decides which of a GPU's abilities the module can use."""
        header = (self.headers["vulkan"] / "vulkan_core.h").read_text("utf-8")
        found = HEADER_VERSION.search(header)
        compiler = run([self.glslc, "--version"]).splitlines()[0]
        words = compiler.removeprefix("shaderc v").split()
        return {"glslc": words[0] if words else "unknown", "vulkan_headers": found[1] if found else "unknown"}

    def inputs(self) -> dict[str, str]:
        """All that the module depends on of it."""
        files = {name: [path for path in folder.rglob("*.h*")] for name, folder in self.headers.items()}
        digests = {f"headers {name}": digest(paths, self.headers[name]) for name, paths in files.items()}
        versions = {VERSION + name: text for name, text in self.versions().items()}
        return {"glslc": run([self.glslc, "--version"]), **digests, **versions}


def find_shaders() -> Shaders:
    """What $VULKAN_SDK names comes first. Raises MissingTool."""
    sdk = Path(os.environ["VULKAN_SDK"]) if os.environ.get("VULKAN_SDK") else None
    path = os.pathsep.join([*([str(sdk / "bin")] if sdk else []), os.environ.get("PATH", os.defpath)])
    glslc = shutil.which("glslc", path=path)
    if not glslc:
        raise MissingTool(f"the program 'glslc', for the shaders of the backend 'vulkan', is missing: {INSTALL}")
    roots = [*([sdk / "include"] if sdk else []), *SYSTEM_HEADERS]
    for name in NEEDED_HEADERS:
        if not any((root / name).exists() for root in roots):
            raise MissingTool(
                f"the header {name!r}, which the backend 'vulkan' is compiled with, is missing: {INSTALL}"
            )
    return Shaders(Path(glslc), {name: folder for name in HEADERS for folder in _folders(roots, name)})


def _folders(roots: list[Path], name: str) -> Iterator[Path]:
    """The first folder of that name, if any: those of one name belong together."""
    yield from [root / name for root in roots if (root / name).is_dir()][:1]


def part(target: Target, sdist: Path) -> Part:
    """The part out of the llama-cpp-python sdist. Raises MissingTool when it could not be built here."""
    tools, shaders = toolchain.find_tools(), find_shaders()

    def build(work: Path, out: Path, report: Report) -> None:
        places = Places(work)
        with assembling("the backend 'vulkan'"):
            report.step("unpacking llama.cpp for Vulkan")
            unpack(sdist, places.source)
            project.copy({name: PROJECT / name for name in PROJECT_FILES}, places.project)
            project.copy(_header_files(shaders), _headers(places))
            report.step("configuring the Vulkan backend")
            project.configure(tools, places, _settings(target, tools, shaders, places), report)
            report.step("compiling the Vulkan backend and its shaders")
            project.make("ggml-vulkan", tools, places, report)
            _place(target, tools, shaders, places, out)
        report.progress(1.0)

    inputs = {
        "sdist": sha256(sdist),
        "target": repr(target),
        "recipe": digest(_recipe(), HERE),
        **shaders.inputs(),
        **tools.versions(),
    }
    return Part("vulkan", inputs, build, SECONDS, target.name)


def _recipe() -> list[Path]:
    modules = ("vulkan.py", "project.py", "toolchain.py")
    return [HERE / name for name in modules] + list(project.files_in(PROJECT).values())


def _headers(places: Places) -> Path:
    return places.work / "headers"


def _header_files(shaders: Shaders) -> dict[str, Path]:
    """Those that are compiled with: copied, since where they lie are those of this machine's C library too."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in shaders.headers.items()
        for path in folder.rglob("*.h*")
        if path.is_file()
    }


def _settings(target: Target, tools: Tools, shaders: Shaders, places: Places) -> dict[str, str | Path]:
    flags = project.quoted(project.prefix_maps(places, {_headers(places): "headers"}))
    compilers = project.compilers(target, tools, places)
    return {
        **project.system(target),
        **compilers,
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "MKLLM_HEADERS": _headers(places),
        "Vulkan_GLSLC_EXECUTABLE": shaders.glslc,
        "GGML_VULKAN_SHADERS_GEN_TOOLCHAIN": _toolchain_file({"CMAKE_MAKE_PROGRAM": tools.ninja, **compilers}, places),
    }


def _toolchain_file(programs: Mapping[str, Path], places: Places) -> Path:
    """For the program that has the shaders compiled, a project of its own: what runs on the kit's target runs here."""
    path = places.work / "host.cmake"
    text = "".join(f'set({name} "{value}" CACHE FILEPATH "")\n' for name, value in programs.items())
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def _place(target: Target, tools: Tools, shaders: Shaders, places: Places, out: Path) -> None:
    """The module, checked against what the kit promises, and the licences of what is compiled into it."""
    module = project.place_module(MODULE, places, out)
    promise.require(target, module, LINKED)
    if missing := LINKED - set(read_elf(module).needed):
        raise ToolFailed(f"{MODULE!r} does not ask for {', '.join(sorted(missing))}: it was linked without their names")
    texts = {
        "vulkan-headers": _vulkan_license(shaders),
        "spirv-headers": license_text(shaders.headers["spirv"] / SPIRV_HEADER, "Permission is hereby granted"),
        **{name: license_text(path, None) for name, path in toolchain.zig_licenses(tools.zig).items()},
    }
    project.write_licenses(places, texts, out)


def _vulkan_license(shaders: Shaders) -> str:
    """The headers name the MIT licence without its text."""
    notice = license_text(shaders.headers["vulkan"] / "vulkan.hpp", "SPDX-License-Identifier: Apache-2.0 OR MIT")
    return f"{notice}\n{(PROJECT / 'MIT.txt').read_text('utf-8')}"
