"""What a kit promises of the systems that it is for, checked on every program and library in it (spec/kit.md)."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.elf import System, check, is_elf, parse
from mkllm.builder.kit.macho import needs
from mkllm.builder.kit.pe import is_pe, parse_pe
from mkllm.builder.kit.pkg import BINARY, read_pkg
from mkllm.builder.kit.target import Target
from mkllm.runtime.artifact.macho import is_macho

# Libraries of the drivers of the machine that a module runs on: where they are missing, it alone does not load.
DRIVERS = {"libggml-vulkan.so": {"libvulkan.so.1"}, "libggml-cuda.so": {"libcuda.so.1"}}


def is_program(path: Path) -> bool:
    """Whether it is a program or a library, of Linux, Windows or macOS."""
    with path.open("rb") as file:
        head = file.read(4)
    return is_elf(path) or is_pe(head[:2]) or is_macho(head)


def require(target: Target, path: Path, also: AbstractSet[str] = frozenset()) -> None:
    """Raise ToolFailed unless that file runs on the target, with what every such system has and with `also`."""
    _check(target, path.name, path.read_bytes(), target.system_libraries | also)


def check_files(target: Target, folders: Sequence[Path]) -> None:
    """Raises ToolFailed for a file in these parts, or in a PKG of them, that is for another processor, needs a newer
    system than is promised, or a library that neither every system has nor the kit."""
    files = dict(_programs(folders))
    own = {_file_name(name) for name in files}
    for name, data in files.items():
        drivers = DRIVERS.get(_file_name(name), set())
        _check(target, name, data, target.system_libraries | own | drivers)


def _check(target: Target, name: str, data: bytes, libraries: AbstractSet[str]) -> None:
    if target.windows:
        _check_windows(target.windows, name, data, libraries)
    elif target.macos:
        _check_macos(target.macos, name, data, libraries)
    else:
        check(name, parse(name, data), System(target.elf_machine, target.glibc, target.page), libraries)


def _check_windows(promised: tuple[int, int], name: str, data: bytes, libraries: AbstractSet[str]) -> None:
    found = parse_pe(name, data)
    if found.system > promised:
        raise ToolFailed(
            f"{name!r} needs Windows {found.system[0]}.{found.system[1]}, promised is {promised[0]}.{promised[1]}"
        )
    if more := sorted(found.needed - {library.lower() for library in libraries}):
        raise ToolFailed(f"{name!r} needs the library {more[0]!r}, which not every Windows has")


def _check_macos(promised: tuple[int, int], name: str, data: bytes, libraries: AbstractSet[str]) -> None:
    found = needs(name, data)
    if found.macos > promised:
        raise ToolFailed(
            f"{name!r} needs macOS {found.macos[0]}.{found.macos[1]}, promised is {promised[0]}.{promised[1]}"
        )
    if more := sorted(found.libraries - libraries):
        raise ToolFailed(f"{name!r} needs the library {more[0]!r}, which not every Mac has")


def _file_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _programs(folders: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and is_program(path):
                yield path.relative_to(folder).as_posix(), path.read_bytes()
        for path in sorted(folder.rglob("*.pkg")):
            yield from (
                (f"{path.name}/{entry.name}", entry.data) for entry in read_pkg(path).entries if entry.kind == BINARY
            )
