"""Pinned source distributions, fetched by pip so that its mirrors, proxies and `--find-links` folders serve."""

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from mkllm.builder import cache
from mkllm.builder.errors import MissingTool, ToolFailed, WrongHash
from mkllm.builder.kit.pins import Sdist
from mkllm.builder.process import run


def fetch(sdist: Sdist, log: IO[str] | None = None) -> Path:
    """The sdist's file in the cache, downloaded when it is not there.

    Raises WrongHash when what arrives is not the pinned file, MissingTool without pip, ToolFailed when pip cannot get
    it.
    """
    kept = cache.folder("downloads") / sdist.filename
    if kept.exists() and sha256(kept) == sdist.sha256:
        return kept
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as folder:
        arrived = _download(sdist, Path(folder), log)
        found = sha256(arrived)
        if found != sdist.sha256:
            raise WrongHash(
                f"{arrived.name!r} has the SHA-256 {found}, not the pinned {sdist.sha256}: "
                "the index or a proxy gave another file; try another index (PIP_INDEX_URL)"
            )
        os.replace(arrived, kept)
    return kept


def _download(sdist: Sdist, folder: Path, log: IO[str] | None) -> Path:
    """Ask pip for the sdist alone. Without build isolation pip only asks the sdist's own backend for its metadata,
    which takes a second; with it, pip would first install everything needed to compile the package."""
    args = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    try:
        run([*args, "--dest", folder, f"{sdist.name}=={sdist.version}"], log=log)
    except ToolFailed as failure:
        raise _translated(sdist, str(failure)) from None
    files = [path for path in folder.iterdir() if path.name.endswith(".tar.gz")]
    if len(files) != 1:
        raise ToolFailed(f"pip gave no source distribution of {sdist.name} {sdist.version}: {sorted(map(str, files))}")
    return files[0]


def _translated(sdist: Sdist, text: str) -> Exception:
    if "No module named pip" in text:
        return MissingTool("pip is missing in this Python: run `python -m ensurepip`")
    if "BackendUnavailable" in text or "Cannot import" in text:
        return MissingTool(f"the packages that a kit is built with are missing: run `pip install 'mkllm[kit]'`\n{text}")
    return ToolFailed(
        f"the source of {sdist.name} {sdist.version} could not be downloaded: check the network or the index that pip "
        f"is set up with, or put {sdist.filename!r} into {cache.root() / 'downloads'}\n{text}"
    )


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
