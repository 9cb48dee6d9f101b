"""The bootloader part for macOS: PyInstaller's own program for arm64 out of its wheel, with the signature that its
linker gave it (spec/kit.md). Made on any system: nothing is compiled."""

import struct
import zipfile
from pathlib import Path

from mkllm.builder.errors import NoSource, ToolFailed
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.kit.runtime_pkg import for_python
from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.artifact.macho import ARM64, FAT, NotMachO, parse

TARGET = TARGETS["macos-arm64"]
MEMBER = "PyInstaller/bootloader/Darwin-64bit/run"
LICENSE = "COPYING.txt"
SECONDS = 2.0

_FAT_HEADER = struct.Struct(">II")
_FAT_SLICE = struct.Struct(">IIIII")


def part() -> Part:
    """The part out of PyInstaller's wheel for macOS, of the version and hash in pins.toml."""
    version, hashes = pins()["sdist"]["pyinstaller"]["version"], pins()["wheels"]["pyinstaller"]

    def build(work: Path, out: Path, report: Report) -> None:
        report.step("fetching the bootloader for macOS")
        command: list[str | Path] = ["download", "--quiet", "--only-binary", ":all:", *for_python(TARGET.platforms)]
        try:
            pip([*command, "--dest", work], [requirement("pyinstaller", version, hashes)], report.log)
        except ToolFailed as failure:
            raise NoSource(
                f"PyInstaller {version} for macOS could not be downloaded: check the network or the index that pip is "
                f"set up with\n{failure}"
            ) from None
        _take(next(work.glob("pyinstaller-*.whl")), out)
        report.progress(1.0)

    inputs = {"wheel": " ".join(hashes), "recipe": digest([Path(__file__)], Path(__file__).parent)}
    return Part("bootloader", inputs, build, SECONDS, TARGET.name)


def thin(data: bytes) -> bytes:
    """The program for arm64 out of one for several architectures. Raises ToolFailed where there is none."""
    try:
        magic, count = _FAT_HEADER.unpack_from(data)
        if magic != FAT:
            raise NotMachO("it is not of several architectures")
        slices = (_FAT_SLICE.unpack_from(data, _FAT_HEADER.size + i * _FAT_SLICE.size) for i in range(count))
        found = next((data[at : at + size] for cpu, _, at, size, _ in slices if cpu == ARM64), b"")
        start, size = parse(found).signature
        if start + size != len(found):
            raise NotMachO("it does not end with its signature")
    except (struct.error, NotMachO) as error:
        raise ToolFailed(f"PyInstaller's program for macOS is not as it should be: {error}") from None
    return found


def _take(wheel: Path, out: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        program = out / "bootloader"
        program.write_bytes(thin(archive.read(MEMBER)))
        program.chmod(0o755)
        text = next(name for name in archive.namelist() if name.endswith(LICENSE))
        (out / "licenses").mkdir()
        (out / "licenses" / "pyinstaller.txt").write_bytes(archive.read(text))
