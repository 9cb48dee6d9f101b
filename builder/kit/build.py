"""Builds the kit of one target out of its parts; each part knows its own business (spec/kit.md)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import (
    bootloader,
    bootloader_macos,
    bootloader_windows,
    cuda,
    metal,
    native,
    native_windows,
    promise,
    python,
    python_windows,
    runtime_macos,
    runtime_pkg,
    runtime_windows,
    vulkan,
    web,
)
from mkllm.builder.kit import target as targets
from mkllm.builder.kit.elf import newest_glibc
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.packed import packed_name
from mkllm.builder.kit.part import VERSION, Part, Report
from mkllm.builder.kit.pins import pins, sdist
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.store import build_part, compose, is_built, place_of
from mkllm.builder.kit.target import Target, check_place

MODULE = re.compile(r"native/(lib)?ggml-(?P<backend>(?!base\.(so|dll)).+)\.(so|dll)")
CPU = "cpu"
# Backends that a kit has when they are asked for, each a part of its own out of the sdist, and for CUDA of the
# architectures that were named; the CPU variants are in the native part.
OPTIONAL: Mapping[str, Callable[[Target, Path, str | None], Part]] = {
    "cuda": lambda target, sdist, architectures: cuda.part(target, sdist, architectures),
    "metal": lambda target, sdist, _: metal.part(sdist),
    "vulkan": lambda target, sdist, _: vulkan.part(target, sdist),
}
MADE_FOR = {"cuda": "linux-x86_64", "metal": "macos-arm64", "vulkan": "linux-x86_64"}


@dataclass(frozen=True)
class Share:
    """A report for one part of a longer work: its progress moves the whole from `start` by `length` of 1."""

    whole: Report
    start: float
    length: float

    @property
    def log(self) -> IO[str]:
        return self.whole.log

    def step(self, text: str) -> None:
        self.whole.step(text)

    def progress(self, fraction: float) -> None:
        self.whole.progress(self.start + self.length * min(fraction, 1.0))


def build_kit(
    target: Target,
    variants: str,
    report: Report,
    keep_work: bool = False,
    backends: Sequence[str] = (),
    cuda_architectures: str | None = None,
    python_source: Path | None = None,
) -> Kit:
    """Build what is missing of the kit and return it; `variants` is what `variants.resolve` takes, `backends` are names
    of OPTIONAL. With `keep_work` the folders of intermediate files stay, so that a changed part is built quickly.
    `python_source` is a folder with Debian's files for the part `python`."""
    check_place(target)
    report.step("fetching the pinned sources")
    llama, installer = fetch(sdist("llama-cpp-python"), report.log), fetch(sdist("pyinstaller"), report.log)
    more = [OPTIONAL[name](target, llama, cuda_architectures) for name in backends]
    parts = (
        native_windows.part(variants, llama) if target.windows else native.part(target, variants, llama),
        *more,
        web.part(llama),
        *_frozen(target, installer, python_source),
    )
    folders = _build_all(parts, report, keep_work)
    report.step("putting the kit together")
    promise.check_files(target, folders)
    return compose(target.name, parts, folders, _facts(target, parts, folders))


def _frozen(target: Target, installer: Path, python_source: Path | None) -> tuple[Part, Part]:
    """The bootloader and the runtime. Python is no part of the kit itself: the runtime takes of it what it needs."""
    if target.windows:
        compiler = python.part(targets.builder(), python_source)
        runtime = runtime_windows.part(python_windows.part(), compiler)
        return bootloader_windows.part(installer), runtime
    if target.macos:
        return bootloader_macos.part(), runtime_macos.part(target)
    return bootloader.part(target, installer), runtime_pkg.part(target, python.part(target, python_source))


def optional_backends(text: str, target: Target) -> tuple[str, ...]:
    """Those named in a list such as `cpu,vulkan`, sorted; `cpu` is always there. Raises NoKit for an unknown name, and
    for one that the target cannot have."""
    names = {name.strip() for name in text.split(",")} - {CPU}
    if unknown := sorted(names - OPTIONAL.keys()):
        known = ", ".join([CPU, *sorted(OPTIONAL)])
        raise NoKit(f"there is no backend called {unknown[0]!r}: those that a kit can have are {known}")
    if other := sorted(name for name in names if MADE_FOR[name] != target.name):
        raise NoKit(
            f"the backend {other[0]!r} is not made for {target.name!r} yet: leave it out, or choose --target "
            f"{MADE_FOR[other[0]]}"
        )
    return tuple(sorted(names))


def _build_all(parts: Sequence[Part], report: Report, keep_work: bool) -> list[Path]:
    """The folders of these parts; what they need and is not there is built before."""
    todo = _missing(parts)
    total, done = sum(part.weight for part in todo) or 1.0, 0.0
    for part in todo:
        build_part(part, Share(report, done, part.weight / total), keep_work)
        done += part.weight / total
        report.progress(done)
    return [build_part(part, report, keep_work) for part in parts]


def _missing(parts: Sequence[Part]) -> list[Part]:
    """Those that have to be built, each after what it needs: nothing is needed for one that is there."""
    found: list[Part] = []
    for part in parts:
        if not is_built(part):
            found += [other for other in (*_missing(part.needs), part) if place_of(other) not in map(place_of, found)]
    return found


def _facts(target: Target, parts: Sequence[Part], folders: Sequence[Path]) -> dict[str, Any]:
    members = sorted(f"native/{path.name}" for folder in folders for path in folder.glob("native/*"))
    modules = {name: found["backend"] for name in members if (found := MODULE.fullmatch(name))}
    engine = f"native/{target.program(native.ENGINE)}"
    libraries = [name for name in members if name != engine and name not in modules]
    return {
        "versions": _versions(target, parts),
        "parts": {part.name: part.key for part in parts},
        **_needs(target, parts, folders),
        "engine": {"program": engine, "libraries": libraries},
        "backends": [{"name": backend, "member": packed_name(name)} for name, backend in modules.items()],
    }


def _needs(target: Target, parts: Sequence[Part], folders: Sequence[Path]) -> dict[str, Any]:
    """What the kit needs of a system: `glibc` is empty for Windows and macOS."""
    for name, version in (("windows", target.windows), ("macos", target.macos)):
        if version:
            return {"glibc": "", name: ".".join(map(str, version))}
    floors = {part.name: _glibc(folder) for part, folder in zip(parts, folders, strict=True)}
    newest = max(floors.values(), key=lambda version: [int(digits) for digits in version.split(".")])
    return {"glibc": newest, "glibc_of_parts": floors}


def _glibc(folder: Path) -> str:
    """The newest glibc that anything of a part needs; what is frozen says it itself."""
    frozen = folder / "runtime.pkg"
    return runtime_pkg.glibc_of(frozen) if frozen.exists() else newest_glibc(folder)


def _versions(target: Target, parts: Sequence[Part]) -> dict[str, str]:
    tools = {name: str(version) for name, version in pins()["tools"].items()}
    found = [item for part in parts for item in part.inputs.items()]
    tools |= {name.removeprefix(VERSION): text for name, text in found if name.startswith(VERSION)}
    return {
        "llama_cpp": sdist("llama-cpp-python").version,
        "pyinstaller": sdist("pyinstaller").version,
        "python": python_windows.version() if target.windows else python.version(),
        **tools,
    }
