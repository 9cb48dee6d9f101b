"""The cache of huggingface_hub on this machine: which files it holds, and how files come into it; asks nobody.

Laid out as huggingface_hub does: blobs by hash, links to them by commit and name, and what commit a revision was.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.model.quant import models
from mkllm.runtime.artifact.draft import failure

PREFIX = "models--"
ELSEWHERE = "set HF_HOME to a folder on another disk"


@dataclass(frozen=True)
class Kept:
    """A model in the cache: the first part of a split one."""

    repository: str
    revision: str
    file: str
    path: Path


def folder(repository: str) -> Path:
    """Where a repository's files are, or would be."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def cached(reference: Reference) -> Path | None:
    """The file, if the cache holds it."""
    known = try_to_load_from_cache(reference.repository, reference.file or "", revision=reference.revision)
    return Path(known) if isinstance(known, str) else None


def commit(path: Path, file: str) -> str:
    """The commit in a path of the cache, `…/snapshots/<commit>/<file>`."""
    return path.parents[len(PurePosixPath(file).parts) - 1].name


def snapshot(repository: str, revision: str) -> Path | None:
    """The folder of that revision's files, if there is one."""
    place = folder(repository)
    known = place / "refs" / revision
    with contextlib.suppress(OSError):
        revision = known.read_text().strip() or revision
    found = place / "snapshots" / revision
    return found if found.is_dir() else None


def files(repository: str, revision: str) -> list[str]:
    """Names of the files of a revision that the cache holds."""
    found = snapshot(repository, revision)
    return sorted(_names(found)) if found else []


def kept(root: Path | None = None) -> list[Kept]:
    """All models in a cache (None: huggingface_hub's own), each of its newest commit that has it."""
    found: dict[tuple[str, str], Kept] = {}
    for place in sorted((root or Path(constants.HF_HUB_CACHE)).glob(f"{PREFIX}*--*")):
        repository = place.name.removeprefix(PREFIX).replace("--", "/", 1)
        commits = sorted((path for path in (place / "snapshots").glob("*") if path.is_dir()), key=_changed)
        for revision in commits:
            for name in models(_names(revision)):
                found[repository, name] = Kept(repository, revision.name, name, revision / name)
    return list(found.values())


def add(pinned: Reference, digest: str, revision: str, make: Callable[[Path], None]) -> Path:
    """Have `make` write the blob of a file, and link it; `revision` is what stood for the commit. Its path.

    Raises NoSpace or PermissionFailure.
    """
    place = folder(pinned.repository)
    blob = place / "blobs" / digest
    link = place / "snapshots" / pinned.revision / (pinned.file or "")
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        make(blob)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(os.path.relpath(blob, link.parent))
        if revision != pinned.revision:
            ref = place / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(pinned.revision)
    except OSError as error:
        raise failure(error, blob) from error
    return link


def note_missing(pinned: Reference) -> None:
    """Remember, as huggingface_hub does, that the commit has no such file."""
    place = folder(pinned.repository) / ".no_exist" / pinned.revision / (pinned.file or "")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def is_known_missing(pinned: Reference) -> bool:
    """Whether the commit is known to have no such file."""
    return (folder(pinned.repository) / ".no_exist" / pinned.revision / (pinned.file or "")).exists()


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
