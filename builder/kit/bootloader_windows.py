"""The bootloader part for Windows: PyInstaller's own, as its wheel for Windows holds it (spec/kit.md).

What an artifact shows of itself, its icon and its version, is put into it when the artifact is built.
"""

import zipfile
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import promise
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.pins import pins, sdist
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.kit.runtime_pkg import for_python
from mkllm.builder.kit.target import TARGETS

HERE = Path(__file__).parent
TARGET = TARGETS["windows-x86_64"]
NAME = "pyinstaller"
PROGRAM = "PyInstaller/bootloader/Windows-64bit-intel/run.exe"
SECONDS = 5.0


def part() -> Part:
    """The part out of PyInstaller's pinned wheel for Windows."""
    version, hashes = sdist(NAME).version, pins()["wheels"][NAME]

    def build(work: Path, out: Path, report: Report) -> None:
        report.step("fetching the bootloader for Windows")
        words: list[str | Path] = ["download", "--quiet", "--only-binary", ":all:", *for_python(TARGET.platforms)]
        pip([*words, "--dest", work], [requirement(NAME, version, hashes)], report.log)
        take(next(work.glob(f"{NAME}-{version}-*.whl")), out)

    inputs = {"version": version, "wheels": " ".join(hashes), "recipe": digest([HERE / "bootloader_windows.py"], HERE)}
    return Part("bootloader", inputs, build, SECONDS, TARGET.name)


def take(wheel: Path, out: Path) -> None:
    """The program and its licence out of the wheel. Raises ToolFailed when they are not there."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [name for name in archive.namelist() if name.endswith("/COPYING.txt")]
        if PROGRAM not in archive.namelist() or not texts:
            raise ToolFailed(
                f"{wheel.name!r} holds no {PROGRAM!r} with its licence: pin another version of PyInstaller"
            )
        program = out / "bootloader"
        program.write_bytes(archive.read(PROGRAM))
        (out / "licenses").mkdir()
        (out / "licenses" / "pyinstaller.txt").write_bytes(archive.read(texts[0]))
    promise.require(TARGET, program)
