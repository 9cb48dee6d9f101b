"""Pinned source distributions, fetched by pip so that its mirrors, proxies and `--find-links` folders serve."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import IO

from mkllm.builder import cache
from mkllm.builder.errors import NoSource, ToolFailed
from mkllm.builder.kit.pins import Sdist
from mkllm.builder.kit.pip import pip, requirement


def fetch(sdist: Sdist, log: IO[str] | None = None) -> Path:
    """The sdist's file in the cache, downloaded when it is not there.

    Raises WrongHash when what arrives is not the pinned file, MissingTool without pip, ToolFailed when pip cannot get
    it.
    """
    kept = cache.folder("downloads") / sdist.filename
    with cache.locked(kept.parent / ".lock"):
        if not (kept.exists() and sha256(kept) == sdist.sha256):
            with cache.draft(kept.parent, sdist.name) as folder:
                os.replace(_download(sdist, folder, log), kept)
    return kept


def _download(sdist: Sdist, folder: Path, log: IO[str] | None) -> Path:
    """Ask pip for the sdist alone. Without build isolation pip only asks the sdist's own backend for its metadata,
    which takes a second; with it, pip would first install everything needed to compile the package. Either way pip
    compares the hash before it starts the backend."""
    command: list[str | Path] = ["download", "--no-binary", ":all:", "--no-build-isolation", "--dest", folder]
    try:
        pip(command, [requirement(sdist.name, sdist.version, [sdist.sha256])], log)
    except ToolFailed as failure:
        raise NoSource(
            f"the source of {sdist.name} {sdist.version} could not be downloaded: check the network or the index that "
            f"pip is set up with, or put {sdist.filename!r} into {cache.root() / 'downloads'}\n{failure}"
        ) from None
    files = [path for path in folder.iterdir() if path.name.endswith(".tar.gz")]
    if len(files) != 1:
        raise ToolFailed(f"pip gave no source distribution of {sdist.name} {sdist.version}: {sorted(map(str, files))}")
    return files[0]


def unpack(sdist: Path, folder: Path) -> None:
    """The sdist's files in `folder`, without its top folder; nothing is done when they are there already.

    File times are kept, so that unpacking again compiles nothing again.
    """
    mark, wanted = folder / ".unpacked", sha256(sdist)
    if mark.exists() and mark.read_text() == wanted:
        return
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(fresh, filter="data")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(next(fresh.iterdir()), folder)
    shutil.rmtree(fresh)
    mark.write_text(wanted)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
