"""What a kit promises of the systems that its programs run on, checked on every ELF file in it (spec/kit.md)."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from mkllm.builder.kit.elf import System, check, is_elf, parse, read_elf
from mkllm.builder.kit.pkg import BINARY, read_pkg
from mkllm.builder.kit.target import Target

# Libraries of the drivers of the machine that a module runs on: where they are missing, it alone does not load.
DRIVERS = {"libggml-vulkan.so": {"libvulkan.so.1"}, "libggml-cuda.so": {"libcuda.so.1"}}


def require(target: Target, path: Path, also: AbstractSet[str] = frozenset()) -> None:
    """Raise ToolFailed unless that file runs on the target, with what every such system has and with `also`."""
    check(path.name, read_elf(path), _system(target), target.system_libraries | also)


def check_files(target: Target, folders: Sequence[Path]) -> None:
    """Raises ToolFailed for a file in these parts, or in a PKG of them, that is for another processor, needs a newer
    glibc than is promised, or a library that neither every system has nor the kit."""
    files = dict(_elf_files(folders))
    own = {name.rpartition("/")[2] for name in files}
    for name, data in files.items():
        drivers = DRIVERS.get(name.rpartition("/")[2], set())
        check(name, parse(name, data), _system(target), target.system_libraries | own | drivers)


def _system(target: Target) -> System:
    return System(target.elf_machine, target.glibc, target.page)


def _elf_files(folders: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and is_elf(path):
                yield path.relative_to(folder).as_posix(), path.read_bytes()
        for path in sorted(folder.rglob("*.pkg")):
            yield from (
                (f"{path.name}/{entry.name}", entry.data) for entry in read_pkg(path).entries if entry.kind == BINARY
            )
