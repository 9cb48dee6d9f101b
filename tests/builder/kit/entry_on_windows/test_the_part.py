"""The bootloader part for Windows: what was compiled."""

from pathlib import Path
from typing import Any

from mkllm.builder.kit import bootloader_windows
from mkllm.builder.kit.pe import parse_pe, sections
from mkllm.builder.kit.pins import sdist
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.target import TARGETS

DYNAMIC_BASE, NO_EXECUTION_OF_DATA, HIGH_ENTROPY = 0x40, 0x100, 0x20


def test_needs_the_c_library_and_one_other(bootloader: bytes) -> None:
    found = parse_pe("bootloader", bootloader)
    assert found.system <= (10, 0) and not found.is_library
    libraries = {name for name in found.needed if not name.startswith("api-ms-win-crt-")}
    assert libraries == {"kernel32.dll"} and found.needed <= TARGETS["windows-x86_64"].system_libraries


def test_its_addresses_cannot_be_known(bootloader: bytes) -> None:
    header = int.from_bytes(bootloader[60:64], "little")
    flags = int.from_bytes(bootloader[header + 24 + 70 :][:2], "little")
    assert flags & (DYNAMIC_BASE | NO_EXECUTION_OF_DATA | HIGH_ENTROPY) == 0x160


def test_is_small_and_names_no_folder_of_the_maker(bootloader: bytes) -> None:
    assert len(bootloader) <= bootloader_windows.MOST_BYTES
    for folder in (Path(bootloader_windows.__file__).parent, Path.home()):
        assert f"{folder}/".encode() not in bootloader
    assert ".debug_info" not in [section.name for section in sections(bootloader)]


def test_the_same_bytes_in_any_folder(bootloader: bytes, silent_report: Any, tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    bootloader_windows.part(fetch(sdist("pyinstaller"))).build(work, out, silent_report)
    assert (out / "bootloader").read_bytes() == bootloader


def test_has_no_pkg_magic_of_its_own(bootloader: bytes) -> None:
    """PyInstaller's loader searches the file for it."""
    assert b"MEI\014\013\012\013\016" not in bootloader


def test_key_changes_with_the_sdist(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    keys = [bootloader_windows.part(path).key for path in (one, one, other)]
    assert keys[0] == keys[1] != keys[2]
