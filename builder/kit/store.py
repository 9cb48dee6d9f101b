"""Built parts and composed kits in the cache, each under a hash; knows no part's insides (spec/kit.md)."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.packed import pack, packed_name
from mkllm.builder.kit.part import Part, Report
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import default, host, is_built_here, named

COMPLETE = ".complete"
ENTRY_POINTS = "mkllm.kits"
MEMBER_FOLDERS = ("licenses", "native", "web")  # what a part gives in these becomes members of every artifact


def is_built(part: Part) -> bool:
    """Whether the cache holds this part whole, every file as it was built: a damaged part is built again."""
    stamp = place_of(part) / COMPLETE
    return stamp.exists() and json.loads(stamp.read_text() or "{}") == _files(stamp.parent)


def build_part(part: Part, report: Report, keep_work: bool = False) -> Path:
    """The folder of the built part; built now if the cache does not hold it.

    Two processes that want the same part build it once. Its work folder is kept until the part is whole, so that an
    interrupted build goes on where it ended; with `keep_work` also afterwards, so that a changed part is built quickly.
    """
    place, work = place_of(part), cache.folder("work") / part.folder
    if is_built(part):
        return place
    with cache.locked(work.with_name(work.name + ".lock")):
        if is_built(part):
            return place
        work.mkdir(exist_ok=True)
        with cache.draft(place.parent, part.folder) as folder:
            out = folder / "out"
            out.mkdir()
            part.build(work, out, report)
            (out / COMPLETE).write_text(json.dumps(_files(out)))
            shutil.rmtree(place, ignore_errors=True)
            os.rename(out, place)
        if not keep_work:
            shutil.rmtree(work, ignore_errors=True)
    return place


def compose(target: str, parts: Sequence[Part], folders: Sequence[Path], facts: dict[str, Any]) -> Kit:
    """Put built parts together into a kit in the cache and return it.

    `facts` is what kit.json says beside `id`, `target` and `files`: versions, glibc, engine, backends, parts.
    """
    kits = cache.folder("kits")
    with cache.locked(kits / ".lock"), cache.draft(kits, "kit") as folder:
        draft = folder / "kit"
        for source in folders:
            _link_tree(source, draft)
        files = _files(draft)
        identity = _identity(files)
        info = {"id": identity, "target": target, "files": files, **facts}
        (draft / "kit.json").write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")
        place = kits / f"{target}-{identity}"
        if not place.exists():
            os.rename(draft, place)
    _point(target, place)
    return Kit.read(place)


def keep(kit: Kit, folder: Path) -> Kit:
    """Move a kit that was made elsewhere, in `folder`, into the cache, and use it from now on. Raises NoKit when its id
    is not that of its files."""
    files = {name: {"size": file.size, "sha256": file.sha256} for name, file in kit.files.items()}
    if _identity(files) != kit.id:
        raise NoKit(f"the kit {kit.id!r} for {kit.target!r} is not what its id says: get it anew, from another place")
    kits = cache.folder("kits")
    place = kits / f"{kit.target}-{kit.id}"
    with cache.locked(kits / ".lock"):
        if not place.exists():
            os.rename(folder, place)
    _point(kit.target, place)
    return Kit.read(place)


def find_kit(target: str) -> Kit:
    """The kit for a target: of an installed kit wheel, else the one built last. Raises NoKit."""
    for candidate in _installed(target):
        return Kit.read(candidate)
    pointer = cache.root() / "kits" / f"{target}.current"
    if pointer.exists() and (place := pointer.parent / pointer.read_text().strip()).is_dir():
        return Kit.read(place)
    option = "" if target == default().name else f" --target {target}"
    how = f"mkllm kit build{option}" if is_built_here(named(target)) else f"mkllm kit fetch {target}"
    raise NoKit(
        f"there is no kit for {target!r} on this machine: run `{how}`, or `pip install` "
        f"a wheel of mkllm-kit-{target.replace('_', '-')} that was built elsewhere"
    )


def examiner(kit: Kit) -> Kit:
    """The kit whose engine looks at models for this one: itself where it runs here, else this machine's own, if that
    has the same llama.cpp; without either the kit itself, of which then nothing is asked."""
    here = host()
    if not kit.runs_here and here:
        with contextlib.suppress(NoKit):
            own = find_kit(here.name)
            if own.versions["llama_cpp"] == kit.versions["llama_cpp"]:
                own.verify()
                return own
    return kit


def current_kits() -> dict[str, Path]:
    """Folders of the kits that `find_kit` chooses, by target."""
    installed = {point.name: Path(point.load()()) for point in entry_points(group=ENTRY_POINTS)}
    pointers = (cache.root() / "kits").glob("*.current")
    built = {pointer.stem: pointer.parent / pointer.read_text().strip() for pointer in pointers}
    return built | installed


def choose_kit(prefix: str | None) -> Kit:
    """The only kit whose id begins with `prefix`; without one, that in use for this machine's system, or the only one
    in use. Raises NoKit."""
    (kits, damaged), current = all_kits(), current_kits()
    own = default().name
    used = [current[own]] if own in current else list(current.values())
    wanted = [kit for kit in kits if (kit.id.startswith(prefix) if prefix else kit.path in used)]
    if len(wanted) == 1:
        return wanted[0]
    for path, failure in damaged.items():
        if path.name.rpartition("-")[2].startswith(prefix) if prefix else path in used:
            raise failure
    known = ", ".join(kit.id for kit in kits) or "none; run `mkllm kit build`"
    raise NoKit(f"{len(wanted)} kits match {prefix or 'this machine'!r}: name one of those on this machine ({known})")


def all_kits() -> tuple[list[Kit], dict[Path, NoKit]]:
    """Every kit on this machine, installed ones first, and by folder what is wrong with those that cannot be read."""
    built = sorted(path.parent for path in (cache.root() / "kits").glob("*/kit.json"))
    kits, damaged = [], {}
    for path in [*_installed(None), *built]:
        try:
            kits.append(Kit.read(path))
        except NoKit as failure:
            damaged[path] = failure
    return kits, damaged


def _installed(target: str | None) -> list[Path]:
    """Kits of installed wheels; each entry point is named after its target and gives a function that returns a path."""
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    return [Path(point.load()()) for point in points if target in (None, point.name)]


def place_of(part: Part) -> Path:
    """The folder in which the part lies once it is built."""
    return cache.folder("parts") / f"{part.folder}-{part.key}"


def _link_tree(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        goal = target / _place_in_kit(Path(packed_name(name)))
        if path.is_dir():
            goal.mkdir(parents=True, exist_ok=True)
        elif path.name != COMPLETE:
            goal.parent.mkdir(parents=True, exist_ok=True)
            if packed_name(name) == name:
                _link(path, goal)
            else:
                goal.write_bytes(pack(path.read_bytes()))


def _place_in_kit(relative: Path) -> Path:
    return Path("members") / relative if relative.parts[0] in MEMBER_FOLDERS else relative


def _link(source: Path, target: Path) -> None:
    """Two parts may give the same file (a licence), never different ones by one name."""
    if target.exists():
        if target.read_bytes() != source.read_bytes():
            raise NoKit(f"two parts of the kit give different files named {target.name!r}: rename one of them")
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _files(root: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {p.relative_to(root).as_posix(): {"size": p.stat().st_size, "sha256": sha256(p)} for p in paths}


def _identity(files: dict[str, dict[str, Any]]) -> str:
    lines = "".join(f"{name}\0{entry['size']}\0{entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _point(target: str, place: Path) -> None:
    pointer = place.parent / f"{target}.current"
    draft = pointer.with_suffix(f".{os.getpid()}")
    draft.write_text(place.name + "\n")
    os.replace(draft, pointer)
