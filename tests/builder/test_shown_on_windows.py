"""What Windows shows of an artifact: which icon, and the kit's bootloader with it."""

import hashlib
from pathlib import Path

import pefile
import pytest

from mkllm.builder.errors import NoKit, UnusableIcon
from mkllm.builder.kit.exe_resources import default_icon
from mkllm.builder.kit.kit import File, Kit
from mkllm.builder.shown_on_windows import bootloader, check_icon, icon_for
from mkllm.builder.target import check_system, implied_system

from .kit.windows_samples import program


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    data = program(["kernel32.dll"])
    (tmp_path / "bootloader").write_bytes(data)
    files = {"bootloader": File(len(data), hashlib.sha256(data).hexdigest())}
    return Kit(tmp_path, "0" * 16, "windows-x86_64", {}, "", "native/mkllm-engine.exe", (), (), files)


def test_a_name_asks_for_windows() -> None:
    assert implied_system(Path("a/mistral.EXE")) == "windows-x86_64"
    assert implied_system(Path("mistral")) is None and implied_system(None) is None
    assert check_system(None, Path("mistral.exe")) == "windows-x86_64"
    assert check_system("linux-x86_64", Path("mistral.exe")) == "linux-x86_64"


def test_the_bootloader_of_an_artifact(kit: Kit) -> None:
    data = bootloader(kit, Path("out/mistral.exe"), "Mistral", default_icon())
    texts = pefile.PE(data=data).dump_info()
    assert "ProductName: Mistral" in texts and "OriginalFilename: mistral.exe" in texts
    assert data == bootloader(kit, Path("mistral.exe"), "Mistral", default_icon())


def test_a_damaged_kit(kit: Kit) -> None:
    (kit.path / "bootloader").write_bytes(program([]))
    with pytest.raises(NoKit, match="'bootloader'"):
        bootloader(kit, Path("mistral.exe"), "Mistral", default_icon())
    (kit.path / "bootloader").unlink()
    with pytest.raises(NoKit, match="'bootloader'"):
        bootloader(kit, Path("mistral.exe"), "Mistral", default_icon())


def test_which_icon(tmp_path: Path) -> None:
    (tmp_path / "own.ico").write_bytes(default_icon() + b"more")
    assert icon_for("windows-x86_64", None) == default_icon()
    assert icon_for("windows-x86_64", tmp_path / "own.ico") == default_icon() + b"more"
    assert icon_for("linux-x86_64", None) is None


def test_an_icon_for_several(tmp_path: Path) -> None:
    path = tmp_path / "own.ico"
    with pytest.raises(UnusableIcon, match="cannot be used: No such file or directory"):
        check_icon(["linux-x86_64", "windows-x86_64"], path)
    path.write_bytes(default_icon())
    check_icon(["linux-x86_64", "windows-x86_64"], path)
    with pytest.raises(UnusableIcon, match="a file for 'linux-x86_64' has no icon"):
        check_icon(["linux-x86_64", "linux-aarch64"], path)


def test_an_icon_for_linux(tmp_path: Path) -> None:
    with pytest.raises(UnusableIcon, match="a file for 'linux-x86_64' has no icon; leave --icon out") as caught:
        icon_for("linux-x86_64", tmp_path / "own.ico")
    assert caught.value.exit_code == 24
