"""Builds the kit of one target out of its parts; each part knows its own business (spec/kit.md)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import bootloader, cuda, metal, native, promise, python, runtime_pkg, vulkan, web
from mkllm.builder.kit.elf import newest_glibc
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.packed import packed_name
from mkllm.builder.kit.part import VERSION, Part, Report
from mkllm.builder.kit.pins import pins, sdist
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.store import build_part, compose, is_built

TARGETS = ("linux-x86_64",)
ENGINE = "native/mkllm-engine"
MODULE = re.compile(r"native/libggml-(?P<backend>(?!base\.so).+)\.so")
CPU = "cpu"
# Backends that a kit has when they are asked for, each a part of its own out of the sdist, and for CUDA of the
# architectures that were named; the CPU variants are in the native part.
OPTIONAL: Mapping[str, Callable[[Path, str | None], Part]] = {
    "cuda": lambda sdist, architectures: cuda.part(sdist, architectures),
    "metal": lambda sdist, _: metal.part(sdist),
    "vulkan": lambda sdist, _: vulkan.part(sdist),
}


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
    target: str,
    variants: str,
    report: Report,
    keep_work: bool = False,
    backends: Sequence[str] = (),
    cuda_architectures: str | None = None,
    python_source: Path | None = None,
) -> Kit:
    """Build what is missing of the kit and return it; `variants` is `all` or `host`, `backends` are names of
    OPTIONAL. With `keep_work` the folders of intermediate files stay, so that a changed part is built quickly.
    `python_source` is a folder with Debian's files for the part `python`."""
    if target not in TARGETS:
        raise NoKit(f"there is no recipe for the target {target!r}: choose {' or '.join(TARGETS)}")
    report.step("fetching the pinned sources")
    llama, installer = fetch(sdist("llama-cpp-python"), report.log), fetch(sdist("pyinstaller"), report.log)
    more = [OPTIONAL[name](llama, cuda_architectures) for name in backends]
    interpreter = python.part(python_source)  # no part of the kit itself: the runtime takes of it what it needs
    runtime = runtime_pkg.part(interpreter)
    parts = (native.part(variants, llama), *more, web.part(llama), bootloader.part(installer), runtime)
    before = () if is_built(runtime) else (interpreter,)
    folders = _build_all((*before, *parts), report, keep_work)[len(before) :]
    report.step("putting the kit together")
    promise.check_files(folders)
    return compose(target, parts, folders, _facts(parts, folders))


def optional_backends(text: str) -> tuple[str, ...]:
    """Those named in a list such as `cpu,vulkan`, sorted; `cpu` is always there. Raises NoKit for an unknown name."""
    names = {name.strip() for name in text.split(",")} - {CPU}
    if unknown := sorted(names - OPTIONAL.keys()):
        known = ", ".join([CPU, *sorted(OPTIONAL)])
        raise NoKit(f"there is no backend called {unknown[0]!r}: those that a kit can have are {known}")
    return tuple(sorted(names))


def _build_all(parts: Sequence[Part], report: Report, keep_work: bool) -> list[Path]:
    missing = sum(part.weight for part in parts if not is_built(part)) or 1.0
    folders, done = [], 0.0
    for part in parts:
        length = 0.0 if is_built(part) else part.weight / missing
        folders.append(build_part(part, Share(report, done, length), keep_work))
        done += length
        report.progress(done)
    return folders


def _facts(parts: Sequence[Part], folders: Sequence[Path]) -> dict[str, Any]:
    members = sorted(f"native/{path.name}" for folder in folders for path in folder.glob("native/*"))
    modules = {name: found["backend"] for name in members if (found := MODULE.fullmatch(name))}
    libraries = [name for name in members if name != ENGINE and name not in modules]
    floors = {part.name: _glibc(folder) for part, folder in zip(parts, folders, strict=True)}
    return {
        "versions": _versions(parts),
        "parts": {part.name: part.key for part in parts},
        "glibc": max(floors.values(), key=lambda version: [int(digits) for digits in version.split(".")]),
        "glibc_of_parts": floors,
        "engine": {"program": ENGINE, "libraries": libraries},
        "backends": [{"name": backend, "member": packed_name(name)} for name, backend in modules.items()],
    }


def _glibc(folder: Path) -> str:
    """The newest glibc that anything of a part needs; what is frozen says it itself."""
    frozen = folder / "runtime.pkg"
    return runtime_pkg.glibc_of(frozen) if frozen.exists() else newest_glibc(folder)


def _versions(parts: Sequence[Part]) -> dict[str, str]:
    tools = {name: str(version) for name, version in pins()["tools"].items()}
    found = [item for part in parts for item in part.inputs.items()]
    tools |= {name.removeprefix(VERSION): text for name, text in found if name.startswith(VERSION)}
    return {
        "llama_cpp": sdist("llama-cpp-python").version,
        "pyinstaller": sdist("pyinstaller").version,
        "python": python.version(),
        **tools,
    }
