"""What Windows shows of an artifact, its icon and its version, put into the kit's bootloader; knows no weights."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mkllm.builder.errors import UnusableIcon
from mkllm.builder.kit.exe_resources import Shown, default_icon, read_icon, resources
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.pe import with_resources
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.version import version


def icon_for(system: str, path: Path | None) -> bytes | None:
    """The icon that an artifact for that system shall have: that file's, else the project's own; None where there are
    no icons. Raises UnusableIcon."""
    if TARGETS[system].windows:
        return read_icon(path) if path else default_icon()
    if path:
        raise UnusableIcon(
            f"the icon {str(path)!r} cannot be used: a file for {system!r} has no icon; leave --icon out, or build for "
            "'windows-x86_64'"
        )
    return None


def check_icon(systems: Sequence[str], path: Path | None) -> None:
    """Raise UnusableIcon when the file is no icon, or none of the artifacts can have one."""
    if path:
        shown = [system for system in systems if TARGETS[system].windows]
        icon_for((shown or systems)[0], path)


def bootloader(kit: Kit, path: Path, name: str, icon: bytes) -> bytes:
    """The kit's bootloader with an icon and a version. Raises NoKit when it is not as it was built."""
    try:
        data = (kit.path / "bootloader").read_bytes()
    except OSError:
        raise kit.damaged("bootloader") from None
    if hashlib.sha256(data).hexdigest() != kit.files["bootloader"].sha256:
        raise kit.damaged("bootloader")
    shown = Shown(name, version(), path.name, f"{name}, a language model in one file, made by mkllm")
    return with_resources("bootloader", data, resources(shown, icon))
