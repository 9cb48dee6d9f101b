"""The bootloader part for Windows: PyInstaller's loader with an entry of our own before it, compiled by zig
(spec/launch.md, 7).

Nothing of PyInstaller's source is changed: its main.c is left out, and its pyi_main is not called: what that finds out
of the environment, bootloader_windows/loader.c tells the loader. The reading of the file is shared with Linux's entry.
What an artifact shows of itself, its icon and its version, is put into it when the artifact is built.
"""

from collections.abc import Iterator
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import bootloader, promise, toolchain
from mkllm.builder.kit.bootloader import Unit
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.process import run

HERE = Path(__file__).parent
ENTRY = HERE / "bootloader_windows"
SHARED = tuple(bootloader.ENTRY / name for name in ("archive.c", "archive.h", "record.c"))
TARGET = TARGETS["windows-x86_64"]
MOST_BYTES = 200_000
SECONDS = 30.0
OTHER_SYSTEMS = ("posix", "x11", "apple")

DEFINES = ("NDEBUG", "PYI_ARCH=64", "WIN32", "HAVE_WCSDUP=1", "UNICODE", "_UNICODE")
FLAGS = ("-O2", "-ffunction-sections", "-fdata-sections", *(f"-D{name}" for name in DEFINES))
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror")
STACK_BYTES = 2_000_000  # as Python's own program has
# Without -O2 zig has the linker write into the file when it was made.
LINK = ("-O2", "-s", "-municode", "-Wl,--gc-sections", f"-Wl,--stack,{STACK_BYTES}", "-luser32", "-ladvapi32")


def part(sdist: Path) -> Part:
    """The part out of PyInstaller's sdist. Raises MissingTool without zig."""
    zig = toolchain.find_zig()

    def build(work: Path, out: Path, report: Report) -> None:
        _build(sdist, zig, work, out, report)

    recipe = (HERE / "bootloader.py", Path(__file__), *SHARED, *ENTRY.iterdir())
    inputs = {
        "sdist": sha256(sdist),
        "target": repr(TARGET),
        "recipe": digest(recipe, HERE),
        "zig": run([zig, "version"]).strip(),
    }
    return Part("bootloader", inputs, build, SECONDS, TARGET.name)


def _build(sdist: Path, zig: Path, work: Path, out: Path, report: Report) -> None:
    report.step("compiling the bootloader for Windows")
    source = work / "source"
    unpack(sdist, source)
    compiler = [str(zig), "cc", "-target", TARGET.zig, *bootloader.prefix_maps(zig, source)]
    objects = bootloader.compile_units(compiler, list(_units(source / "bootloader")), work / "objects", report)
    program = out / "bootloader"
    run([*compiler, *objects, *LINK, "-o", program], env=toolchain.environment(), log=report.log)
    promise.require(TARGET, program)
    if program.stat().st_size > MOST_BYTES:
        raise ToolFailed(f"the bootloader has {program.stat().st_size} bytes, above {MOST_BYTES}: was it not stripped?")
    bootloader.write_licenses(source, out / "licenses")


def _units(loader: Path) -> Iterator[Unit]:
    include = (f"-I{loader / 'src'}", f"-I{loader / 'zlib'}")
    for source in sorted([*ENTRY.glob("*.c"), *(path for path in SHARED if path.suffix == ".c")]):
        yield Unit(source, (*FLAGS, *include, *STRICT))
    for source in sorted([*loader.glob("src/*.c"), *loader.glob("zlib/*.c")]):
        if source.name != "main.c" and not any(system in source.name for system in OTHER_SYSTEMS):
            yield Unit(source, (*FLAGS, *include))
