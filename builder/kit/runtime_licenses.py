"""Licence texts of what is frozen into the runtime: Python, what is compiled into it, each package."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mkllm.builder.errors import ToolFailed

NAMES = ("license", "licence", "copying", "notice", "authors")
PYTHON = {"LICENSE.txt": "python.txt", "LICENSE-zlib.txt": "python-zlib.txt"}


def write_licenses(library: Path, packages: Path, folder: Path, names: Iterable[str]) -> None:
    """`<name>.txt` into `folder` for Python, whose part in Python is in `library`, and for each package of these names
    installed in `packages`."""
    folder.mkdir()
    for source, target in PYTHON.items():
        if (library / source).exists():
            (folder / target).write_text((library / source).read_text("utf-8"))
    for name in names:
        (folder / f"{name}.txt").write_text(_package(packages, name))


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
