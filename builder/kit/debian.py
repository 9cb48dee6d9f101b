"""Pinned files of Debian's source packages, fetched by apt so that its mirrors and proxies serve; knows no package.

Debian's index only says which archive is Debian's: by the SHA-256 in pins.toml a file is known, wherever it came from.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mkllm.builder import cache
from mkllm.builder.errors import MissingTool, NoSource, NoSpace, ToolFailed, WrongHash
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.process import run

HELPER = Path("/usr/lib/apt/apt-helper")


@dataclass(frozen=True)
class SourceFile:
    """A file in the pool of Debian's archive, by its path there and its SHA-256."""

    pool: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.pool.rpartition("/")[2]


def source_files(name: str) -> dict[str, SourceFile]:
    """The pinned files of that source package, by what they are."""
    files = pins()["debian"][name]["files"]
    return {kind: SourceFile(entry["pool"], entry["sha256"]) for kind, entry in files.items()}


def fetch(file: SourceFile, folder: Path | None = None, log: IO[str] | None = None) -> Path:
    """The file in the cache; when it is not there, out of `folder`, else through apt.

    Raises WrongHash when what arrives is not the pinned file, NoSource when nothing does, MissingTool without apt.
    """
    kept = cache.folder("downloads") / file.name
    with cache.locked(kept.parent / ".lock"):
        if not (kept.exists() and sha256(kept) == file.sha256):
            with cache.draft(kept.parent, file.name) as draft:
                os.replace(_from_folder(file, folder, draft) if folder else _from_apt(file, draft, log), kept)
    return kept


def _from_folder(file: SourceFile, folder: Path, draft: Path) -> Path:
    source = folder / file.name
    if not source.is_file():
        raise NoSource(f"{str(folder)!r} does not hold {file.name!r}: put Debian's file of that name there")
    try:
        return _checked(Path(shutil.copyfile(source, draft / file.name)), file, repr(str(folder)))
    except OSError as error:
        raise NoSpace(f"{file.name!r} cannot be copied into the cache ({error.strerror}): free some space") from None


def _from_apt(file: SourceFile, draft: Path, log: IO[str] | None) -> Path:
    failures = []
    for archive in _archives(file):
        try:
            run([HELPER, "download-file", f"{archive}{file.pool}", draft / file.name], log=log)
            return _checked(draft / file.name, file, "apt")
        except ToolFailed as failure:
            failures.append(str(failure))
    raise NoSource(
        f"Debian's file {file.name!r} could not be downloaded: check the network, or {otherwise(file)}\n"
        + "\n".join(failures)
    )


def _archives(file: SourceFile) -> list[str]:
    """Where apt gets Debian's packages from, as it is set up here. Raises MissingTool where that is nowhere."""
    if not HELPER.exists():
        raise MissingTool(f"Debian's file {file.name!r} is fetched by apt, which is not here: {otherwise(file)}")
    lines = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]).splitlines()
    found = sorted({uri for origin, _, uri in (line.partition(" ") for line in lines) if origin == "Debian"})
    if not found:
        why = (
            "knows no archive of Debian here: "
            if lines
            else "has never looked what there is: run `apt-get update`, or "
        )
        raise MissingTool(f"apt, by which {file.name!r} is fetched, {why}{otherwise(file)}")
    return found


def otherwise(file: SourceFile) -> str:
    """What to do where apt does not help."""
    return f"get {file.pool!r} from any mirror of Debian and name its folder by --python-source"


def _checked(path: Path, file: SourceFile, where: str) -> Path:
    if (found := sha256(path)) != file.sha256:
        raise WrongHash(
            f"{file.name!r} from {where} has the SHA-256 {found}, which is not the pinned one: it is another file, or "
            "damaged; get it from another mirror of Debian"
        )
    return path
