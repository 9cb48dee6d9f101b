"""The bootloader part: PyInstaller's loader with the entry of our own before it, compiled by zig (spec/launch.md, 1).

Nothing of PyInstaller's source is changed: its main.c is left out, bootloader/entry.c holds the main function instead.
Before that runs bootloader/start.c, by which the file starts without glibc too, and says there what it needs.
"""

import shutil
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import promise, toolchain
from mkllm.builder.kit.elf import PT_INTERP, PT_NULL, program_headers
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.target import Target
from mkllm.builder.process import run

HERE = Path(__file__).parent
ENTRY = HERE / "bootloader"
MOST_BYTES = 150_000
SECONDS = 40.0
WORKERS = 2
OTHER_SYSTEMS = ("win32", "apple")

# What the loader's own build system would find out by asking the compiler, for Linux with any glibc.
DEFINES = (
    *("_REENTRANT", "NDEBUG", "PYI_ARCH=64", "PYI_USE_POSIX_SEMAPHORE=1", "__LITTLE_ENDIAN__"),
    *("HAVE_UNSETENV=1", "HAVE_WCSDUP=1", "HAVE_MKDTEMP=1", "HAVE_DIRNAME=1", "HAVE_BASENAME=1"),
)
FLAGS = ("-O2", "-fPIE", "-ffunction-sections", "-fdata-sections", *(f"-D{name}" for name in DEFINES))
HARDENED = ("-D_FORTIFY_SOURCE=2",)
STRICT = ("-D_GNU_SOURCE", "-std=c11", "-Wall", "-Wextra", "-Werror")
START = "start.c"  # runs before any library is there
ALONE = ("-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-jump-tables")
# The one call that is redirected: by which name the loader knows its own file (bootloader/file.c). Not hardened,
# because that would make realpath an inline function of the C library's header, which would win over the redirection.
REDIRECTED = {"pyi_main.c": ("-Drealpath=entry_realpath",)}
LINK = ("-s", "-pie", "-Wl,-e,mkllm_start", "-Wl,--gc-sections", "-Wl,-z,relro", "-Wl,-z,now", "-ldl", "-lpthread")


@dataclass(frozen=True)
class Unit:
    """One C file and the flags that are its own."""

    source: Path
    flags: tuple[str, ...]


def part(target: Target, sdist: Path) -> Part:
    """The part out of PyInstaller's sdist. Raises MissingTool without zig."""
    zig = toolchain.find_zig()

    def build(work: Path, out: Path, report: Report) -> None:
        _build(target, sdist, zig, work, out, report)

    inputs = {
        "sdist": sha256(sdist),
        "target": repr(target),
        "recipe": digest([Path(__file__), *ENTRY.iterdir()], HERE),
        "zig": run([zig, "version"]).strip(),
    }
    return Part("bootloader", inputs, build, SECONDS, target.name)


def _build(target: Target, sdist: Path, zig: Path, work: Path, out: Path, report: Report) -> None:
    report.step("compiling the bootloader")
    source = work / "source"
    unpack(sdist, source)
    compiler = [str(zig), "cc", "-target", target.zig, *prefix_maps(zig, source)]
    objects = compile_units(compiler, list(_units(target, source / "bootloader")), work / "objects", report)
    program = out / "bootloader"
    run([*compiler, *objects, *LINK, "-o", program], env=toolchain.environment(), log=report.log)
    promise.require(target, program)
    hide_interpreter(program)
    if program.stat().st_size > MOST_BYTES:
        raise ToolFailed(f"the bootloader has {program.stat().st_size} bytes, above {MOST_BYTES}: was it not stripped?")
    write_licenses(source, out / "licenses")


def prefix_maps(zig: Path, source: Path) -> list[str]:
    """Flags by which what is compiled names no folder of this machine."""
    folders = {zig.parent: "zig", source: "pyinstaller", HERE: "kit"}
    return [f"-ffile-prefix-map={folder}={name}" for folder, name in folders.items()]


def _units(target: Target, loader: Path) -> Iterator[Unit]:
    include = (f"-I{loader / 'src'}", f"-I{loader / 'zlib'}")
    for source in sorted(ENTRY.glob("*.c")):
        flags = _start_flags(target) if source.name == START else (*HARDENED, *include)
        yield Unit(source, (*FLAGS, *flags, *STRICT))
    for source in sorted([*loader.glob("src/*.c"), *loader.glob("zlib/*.c")]):
        if source.name != "main.c" and not any(system in source.name for system in OTHER_SYSTEMS):
            yield Unit(source, (*FLAGS, *REDIRECTED.get(source.name, HARDENED), *include))


def _start_flags(target: Target) -> tuple[str, ...]:
    words = {"LOADER": target.loader, "MACHINE": target.machine, "TRIPLET": target.triplet}
    strings = (f'-DMKLLM_{name}="{word}"' for name, word in words.items())
    return (*ALONE, f"-DMKLLM_GLIBC_MINOR={target.glibc.partition('.')[2]}", *strings)


def hide_interpreter(program: Path) -> None:
    """So that the kernel starts the program itself, not the loader that it names, which other systems do not have.
    bootloader/start.c then finds the name."""
    data = bytearray(program.read_bytes())
    for position, kind in program_headers(data):
        if kind == PT_INTERP:
            struct.pack_into("<I", data, position, PT_NULL)
    program.write_bytes(data)


def compile_units(compiler: Sequence[str], units: list[Unit], folder: Path, report: Report) -> list[Path]:
    """The units' objects, in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    objects = [folder / f"{unit.source.parent.name}-{unit.source.stem}.o" for unit in units]

    def compile_one(unit: Unit, target: Path) -> None:
        args: list[str | Path] = [*compiler, *unit.flags, "-c", unit.source, "-o", target]
        run(args, env=toolchain.environment(), log=report.log)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done, _ in enumerate(pool.map(compile_one, units, objects), 1):
            report.progress(done / (len(units) + 1))
    return objects


def write_licenses(source: Path, folder: Path) -> None:
    """Those of what is compiled in."""
    folder.mkdir()
    shutil.copyfile(source / "COPYING.txt", folder / "pyinstaller.txt")
    shutil.copyfile(source / "bootloader" / "zlib" / "LICENSE", folder / "zlib.txt")
