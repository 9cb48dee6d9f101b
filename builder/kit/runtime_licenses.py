"""Licence texts of what is frozen into the runtime: Python, each package, each library of the system's."""

import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from mkllm.builder.errors import MissingTool, ToolFailed
from mkllm.builder.kit.pins import pins
from mkllm.builder.process import run

NAMES = ("license", "licence", "copying", "notice", "authors")


def write_licenses(packages: Path, libraries: Mapping[str, Path], folder: Path) -> None:
    """`<name>.txt` into `folder` for Python, for each pinned package installed in `packages`, and for each library
    (name in the PKG, and the file of this machine that it was)."""
    folder.mkdir()
    (folder / "python.txt").write_text(_python())
    for name in pins()["runtime"]:
        (folder / f"{name}.txt").write_text(_package(packages, name))
    for name, source in libraries.items():
        (folder / f"{name.split('.so')[0]}.txt").write_text(_library(name, source))


def _python() -> str:
    path = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if path.is_file():
        return path.read_text("utf-8")
    return _library("Python", Path(sysconfig.get_path("stdlib")) / "os.py")


def _package(packages: Path, name: str) -> str:
    info = next(packages.glob(f"{name}-*.dist-info"))
    texts = [path.read_text("utf-8") for path in _license_files(info)]
    if not texts:
        raise ToolFailed(f"the package {name!r} comes without a licence text: pin a version that has one")
    return "\n\n".join(texts)


def _license_files(info: Path) -> Iterator[Path]:
    for path in sorted(info.rglob("*")):
        if path.is_file() and path.name.lower().startswith(NAMES):
            yield path


def _library(name: str, source: Path) -> str:
    """The text that the distribution keeps for the package of this file, else where the file came from."""
    for path in _distribution_files(source):
        return path.read_text("utf-8", errors="replace")
    return (
        f"{name} was taken from the system on which this kit was built; its licence is that of the system's package.\n"
    )


def _distribution_files(source: Path) -> Iterator[Path]:
    if shutil.which("dpkg-query"):
        for package in _owners(["dpkg-query", "--search"], source):
            yield from _existing(Path("/usr/share/doc") / package.split(":")[0] / "copyright")
    if shutil.which("rpm"):
        for package in _owners(["rpm", "--query", "--queryformat", "%{NAME}: ", "--file"], source):
            yield from sorted(Path("/usr/share/licenses", package.split(":")[0]).glob("*"))


def _owners(command: list[str], source: Path) -> list[str]:
    """Package names; the package database may know the file by its path before symbolic links, or after."""
    for path in (source, source.resolve()):
        try:
            return [line.split(": ")[0].split(", ")[0] for line in run([*command, path]).splitlines()]
        except (ToolFailed, MissingTool):
            continue
    return []


def _existing(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
