"""What Windows shows of a program: icon, version, and what it promises the system (its manifest); knows no PE file."""

import struct
from dataclasses import dataclass
from importlib import resources as packaged
from pathlib import Path

from mkllm.builder.errors import UnusableIcon

ICON, ICON_GROUP, VERSION, MANIFEST = 3, 14, 16, 24
DIRECTORY, IMAGE, IMAGE_MEMBER = struct.Struct("<HHH"), struct.Struct("<BBBBHHII"), struct.Struct("<BBBBHHIH")
MOST_BYTES = 4 << 20
FIXED = 0xFEEF04BD
PNG = b"\x89PNG\r\n\x1a\n"
BITMAP_HEADER = 40
# UTF-8 for what knows no other text than the system's code page, long paths, and Windows 10 as the oldest system.
PROMISES = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
  <trustInfo xmlns="urn:schemas-microsoft-com:asm.v3">
    <security>
      <requestedPrivileges><requestedExecutionLevel level="asInvoker" uiAccess="false"/></requestedPrivileges>
    </security>
  </trustInfo>
  <compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1">
    <application><supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/></application>
  </compatibility>
  <application xmlns="urn:schemas-microsoft-com:asm.v3">
    <windowsSettings>
      <activeCodePage xmlns="http://schemas.microsoft.com/SMI/2019/WindowsSettings">UTF-8</activeCodePage>
      <longPathAware xmlns="http://schemas.microsoft.com/SMI/2016/WindowsSettings">true</longPathAware>
    </windowsSettings>
  </application>
</assembly>
"""


@dataclass(frozen=True)
class Shown:
    """`name` is what the program calls itself, `version` of four numbers at most; `file` the name it was built by."""

    name: str
    version: str
    file: str
    description: str


def promises() -> dict[tuple[int, int], bytes]:
    """The manifest alone, for programs that nobody looks at."""
    return {(MANIFEST, 1): PROMISES.encode()}


def resources(shown: Shown, icon: bytes) -> dict[tuple[int, int], bytes]:
    """All of a program's resources, by type and number; `icon` is an .ico file that `check_icon` has let through."""
    return {**promises(), **_icon(icon), (VERSION, 1): version_info(shown)}


def default_icon() -> bytes:
    """The project's own."""
    return packaged.files("mkllm.builder.kit").joinpath("mkllm.ico").read_bytes()


def read_icon(path: Path) -> bytes:
    """The .ico file. Raises UnusableIcon for one that cannot be read, or that Windows would not show."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
        data = path.read_bytes()
        check_icon(data)
        return data
    except OSError as error:
        why = error.strerror or str(error)
    except struct.error:
        why = "it is no whole .ico file"
    except ValueError as error:
        why = str(error)
    raise UnusableIcon(
        f"the icon {str(path)!r} cannot be used: {why}; give an .ico file, or leave --icon out"
    ) from None


def check_icon(data: bytes) -> None:
    """Raises ValueError or struct.error unless every image of the .ico file lies in it and is of a kind that Windows
    shows."""
    reserved, kind, count = DIRECTORY.unpack_from(data)
    if reserved or kind != 1 or not count:
        raise ValueError("it is no .ico file")
    for *_, size, offset in _images(data):
        image = data[offset : offset + size]
        is_bitmap = image[:4] == struct.pack("<I", BITMAP_HEADER)
        if len(image) != size or not (image.startswith(PNG) or is_bitmap):
            raise ValueError("it is damaged: one of its images is not whole")


def _images(data: bytes) -> list[tuple[int, ...]]:
    count = DIRECTORY.unpack_from(data)[2]
    return [IMAGE.unpack_from(data, DIRECTORY.size + index * IMAGE.size) for index in range(count)]


def _icon(data: bytes) -> dict[tuple[int, int], bytes]:
    """Each image is a resource of its own; a group lists them."""
    images = _images(data)
    group = DIRECTORY.pack(0, 1, len(images))
    found = {}
    for number, (*facts, size, offset) in enumerate(images, 1):
        group += IMAGE_MEMBER.pack(*facts, size, number)
        found[ICON, number] = data[offset : offset + size]
    return {**found, (ICON_GROUP, 1): group}


def version_info(shown: Shown) -> bytes:
    """VS_VERSIONINFO: numbers, and the same as text."""
    major, minor, micro, build = numbers(shown.version)
    both = (major << 16 | minor, micro << 16 | build)
    fixed = struct.pack("<13I", FIXED, 0x10000, *both, *both, 0x3F, 0, 0x40004, 1, 0, 0, 0)
    texts = {
        "FileDescription": shown.description,
        "FileVersion": shown.version,
        "InternalName": shown.name,
        "OriginalFilename": shown.file,
        "ProductName": shown.name,
        "ProductVersion": shown.version,
    }
    strings = b"".join(_aligned(_block(name, _text(text), is_text=True)) for name, text in texts.items())
    table = _block("StringFileInfo", b"", _block("040904B0", b"", strings, is_text=True), is_text=True)
    translation = _block("VarFileInfo", b"", _block("Translation", struct.pack("<HH", 0x409, 1200)), is_text=True)
    return _block("VS_VERSION_INFO", fixed, _aligned(table) + translation)


def numbers(version: str) -> tuple[int, int, int, int]:
    """Four numbers out of a version, such as `1.2` or `0.1.0.dev3`: those that it begins with, each below 65536."""
    found = []
    for word in version.split("."):
        if not word.isascii() or not word.isdigit():
            break
        found.append(min(int(word), 0xFFFF))
    first, second, third, fourth = (*found, 0, 0, 0, 0)[:4]
    return first, second, third, fourth


def _text(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(key: str, value: bytes, children: bytes = b"", *, is_text: bool = False) -> bytes:
    """Length, length of the value (in characters, of text), kind, name; then the value and what belongs to it."""
    head = _aligned(bytes(6) + _text(key))
    body = head + (_aligned(value) if children else value) + children
    count = len(value) // 2 if is_text else len(value)
    return struct.pack("<HHH", len(body), count, is_text) + body[6:]
