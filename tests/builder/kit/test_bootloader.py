"""The bootloader part: what was compiled."""

from pathlib import Path

from mkllm.builder.kit import bootloader
from mkllm.builder.kit.elf import read_elf
from mkllm.builder.kit.target import TARGETS


def test_needs_the_c_library_only_and_an_old_one(bootloader_folder: Path) -> None:
    elf = read_elf(bootloader_folder / "bootloader")
    assert elf.glibc <= (2, 17)
    assert set(elf.needed) <= {"libc.so.6", "libdl.so.2", "libpthread.so.0"}
    assert elf.runpath is None


def test_is_small_and_names_no_folder_of_the_maker(bootloader_folder: Path) -> None:
    data = (bootloader_folder / "bootloader").read_bytes()
    assert len(data) <= 150_000
    assert str(Path(bootloader.__file__).parent).encode() not in data
    assert str(Path.home()).encode() + b"/" not in data


def test_has_no_pkg_magic_of_its_own(bootloader_folder: Path) -> None:
    """PyInstaller's loader searches the file for it."""
    assert b"MEI\014\013\012\013\016" not in (bootloader_folder / "bootloader").read_bytes()


def test_licences(bootloader_folder: Path) -> None:
    texts = {path.name: path.read_text() for path in (bootloader_folder / "licenses").iterdir()}
    assert sorted(texts) == ["pyinstaller.txt", "zlib.txt"]
    assert "Bootloader Exception" in texts["pyinstaller.txt"]


def test_key_changes_with_the_sdist(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    keys = [bootloader.part(TARGETS["linux-x86_64"], path).key for path in (one, one, other)]
    assert keys[0] == keys[1] != keys[2]
    assert bootloader.part(TARGETS["linux-aarch64"], one).key not in keys
