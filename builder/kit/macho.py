"""Reads which macOS a Mach-O file needs, and which libraries (spec/kit.md); its place in an artifact is not known."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mkllm.builder.errors import ToolFailed
from mkllm.runtime.artifact.macho import KINDS, NotMachO, parse

VERSION, OLD_VERSION = 0x32, 0x24  # LC_BUILD_VERSION, LC_VERSION_MIN_MACOSX
LIBRARIES = (0xC, 0x80000018, 0x8000001F, 0x20)  # LC_LOAD_DYLIB; weak, exported on, loaded when used
SYSTEM = ("/usr/lib/", "/System/Library/")  # what every Mac has
MACOS = 1  # of the platforms

_COUNT = struct.Struct("<I")
_COMMAND = struct.Struct("<II")
_BUILD = struct.Struct("<II")  # platform and oldest version
_HEADER = 32


@dataclass(frozen=True)
class Needs:
    """`macos` is the oldest version; `libraries` are those that are not the system's, by their file names."""

    macos: tuple[int, int]
    libraries: frozenset[str]


def needs(name: str, data: bytes) -> Needs:
    """What a file needs to run or to be loaded. Raises ToolFailed unless it is for arm64 and signed."""
    try:
        parse(data, KINDS)
        return _needs(data)
    except (struct.error, NotMachO) as error:
        raise ToolFailed(f"{name!r} would not run on macOS: {error}") from None


def _needs(data: bytes) -> Needs:
    version, libraries = None, set()
    for command, at, size in _commands(data):
        if command == VERSION:
            platform, version = _BUILD.unpack_from(data, at + _COMMAND.size)
            if platform != MACOS:
                raise NotMachO(f"it is for platform {platform}")
        elif command == OLD_VERSION:
            (version,) = _COUNT.unpack_from(data, at + _COMMAND.size)
        elif command in LIBRARIES:
            (start,) = _COUNT.unpack_from(data, at + _COMMAND.size)
            libraries.add(data[at + start : at + size].rstrip(b"\0").decode("utf-8", "replace"))
    if version is None:
        raise NotMachO("it does not say which version it is for")
    own = frozenset(path.rpartition("/")[2] for path in libraries if not path.startswith(SYSTEM))
    return Needs((version >> 16, version >> 8 & 0xFF), own)


def _commands(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Number, offset and size of each; `parse` has seen that they make sense."""
    (count,) = _COUNT.unpack_from(data, 16)
    at = _HEADER
    for _ in range(count):
        command, size = _COMMAND.unpack_from(data, at)
        yield command, at, size
        at += size
