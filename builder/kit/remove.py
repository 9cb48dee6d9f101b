"""Frees the disk of kits: of those named, or of all that were replaced; knows not how kits are made."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import all_kits, choose_kit, current_kits

KEY_DIGITS = 16
FILE = "kit.json"


def named(prefixes: Iterable[str]) -> list[Path]:
    """The folders of the kits whose ids begin so. Raises NoKit for an unknown one, and for that of a wheel."""
    wanted = list(prefixes)
    if not all(wanted):
        raise NoKit("an empty name is no kit's: name those to remove by their ids (`mkllm kit list`)")
    found = [choose_kit(prefix) for prefix in wanted]
    for kit in found:
        if kit.path.parent != _kits():
            raise NoKit(f"the kit {kit.id!r} is of an installed wheel: `pip uninstall {_wheel(kit)}` removes it")
    return sorted({kit.path for kit in found})


def replaced() -> list[Path]:
    """The folders of kits that no build takes any more or can take, and of parts that only they have."""
    kits, damaged = all_kits()
    used = set(current_kits().values())
    old = [*(kit.path for kit in kits if kit.path not in used), *damaged]
    whole = [kit.path for kit in kits if kit.path in used]
    return [*sorted(path for path in old if path.parent == _kits()), *_parts_without(whole)]


def remove(folders: Iterable[Path]) -> int:
    """Remove these folders of kits and parts, each at once, as far as others see; the number of bytes that it frees."""
    freed = sum(_removed(folder) for folder in folders)
    for pointer in _kits().glob("*.current"):
        if not (_kits() / pointer.read_text().strip()).is_dir():
            pointer.unlink()
    return freed


def _removed(folder: Path) -> int:
    lock, name = _lock(folder)
    with cache.locked(lock), cache.draft(folder.parent, name) as trash:
        size = _size(folder)
        if folder.is_dir():
            os.rename(folder, trash / folder.name)
        return size


def _lock(folder: Path) -> tuple[Path, str]:
    """What `store` locks before it makes such a folder, and what it calls it meanwhile."""
    if folder.parent == _kits():
        return _kits() / ".lock", "kit"
    name = folder.name[: -KEY_DIGITS - 1]
    return cache.folder("work") / f"{name}.lock", name


def _parts_without(kits: Iterable[Path]) -> Iterator[Path]:
    """Parts that none of these kits has, but for the last one of a kind, from which one of them may have been made."""
    keys = {key for kit in kits for key in json.loads((kit / FILE).read_bytes()).get("parts", {}).values()}
    newest: dict[str, Path] = {}
    places = [path for path in cache.folder("parts").iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(places, key=lambda path: path.stat().st_mtime_ns):
        newest[path.name[: -KEY_DIGITS - 1]] = path
    kept = set(newest.values())
    return (path for path in sorted(places) if path not in kept and path.name[-KEY_DIGITS:] not in keys)


def _size(folder: Path) -> int:
    """Bytes that its files alone take: those that have another name elsewhere stay."""
    states = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum(state.st_size for state in states if state.st_nlink == 1)


def _kits() -> Path:
    return cache.folder("kits")


def _wheel(kit: Kit) -> str:
    return f"mkllm-kit-{kit.target.replace('_', '-')}"
