"""Icons and version resources, read back by another library; icons that are none."""

import struct
from pathlib import Path

import pefile
import pytest

from mkllm.builder.errors import UnusableIcon
from mkllm.builder.kit import draw_icon
from mkllm.builder.kit.exe_resources import Shown, default_icon, numbers, promises, read_icon, resources
from mkllm.builder.kit.pe import with_resources

from .windows_samples import program

SHOWN = Shown("Mistral ä", "1.2.3", "mistral.exe", "A model in one file")


def image(kind: int, number: int) -> bytes:
    return resources(SHOWN, default_icon())[kind, number]


def test_the_version_as_windows_reads_it() -> None:
    file = pefile.PE(data=with_resources("x", program([]), resources(SHOWN, default_icon())))
    fixed = file.VS_FIXEDFILEINFO[0]
    assert (fixed.FileVersionMS, fixed.FileVersionLS) == (1 << 16 | 2, 3 << 16)
    texts = {
        key.decode(): value.decode()
        for info in file.FileInfo[0]
        if info.Key.rstrip(b"\0") == b"StringFileInfo"
        for table in info.StringTable
        for key, value in table.entries.items()
    }
    assert texts["ProductName"] == "Mistral ä" and texts["OriginalFilename"] == "mistral.exe"
    assert texts["FileVersion"] == "1.2.3" and texts["FileDescription"] == "A model in one file"


def test_every_image_of_the_icon_is_in_the_group() -> None:
    group, count = image(14, 1), len(draw_icon.SIZES)
    assert struct.unpack_from("<HHH", group) == (0, 1, count)
    for index, size in enumerate(draw_icon.SIZES):
        width, _, _, _, _, bits, length, number = struct.unpack_from("<BBBBHHIH", group, 6 + 14 * index)
        assert (width, bits) == (size % 256, 32) and len(image(3, number)) == length
        assert struct.unpack_from(">II", image(3, number), 16) == (size, size)  # of the PNG itself


def test_the_default_icon_is_what_is_drawn() -> None:
    assert draw_icon.ico() == default_icon()


def test_promises() -> None:
    (text,) = promises().values()
    assert b"UTF-8</activeCodePage>" in text and b"true</longPathAware>" in text


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.2.3.4", (1, 2, 3, 4)), ("0.1.0.dev3", (0, 1, 0, 0)), ("", (0,) * 4), ("70000", (65535, 0, 0, 0))],
)
def test_numbers(version: str, expected: tuple[int, ...]) -> None:
    assert numbers(version) == expected


def test_a_good_icon(tmp_path: Path) -> None:
    (tmp_path / "a.ico").write_bytes(default_icon())
    assert read_icon(tmp_path / "a.ico") == default_icon()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is no whole .ico file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is no .ico file"),
        (struct.pack("<HHH", 0, 2, 1) + bytes(50), "it is no .ico file"),
        (struct.pack("<HHH", 0, 1, 9) + bytes(50), "it is no whole .ico file"),
        (default_icon()[:-1], "it is damaged: one of its images is not whole"),
    ],
)
def test_an_icon_that_is_none(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.ico").write_bytes(data)
    with pytest.raises(UnusableIcon, match=why) as caught:
        read_icon(tmp_path / "a.ico")
    assert caught.value.exit_code == 24 and "give an .ico file" in str(caught.value)


def test_an_icon_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableIcon, match="No such file"):
        read_icon(tmp_path / "none.ico")
