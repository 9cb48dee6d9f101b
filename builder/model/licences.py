"""Licence files that come with a model: which names they have, and what they are called in an artifact."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from mkllm.builder import cache

NAME = re.compile(r"(licen[cs]e|copying|notice|use[_-]policy|terms)([._-][a-z0-9._-]*)?", re.IGNORECASE)
MEMBERS = "licenses/model/"
OF_MAKER = "licenses/maker/"
LARGEST = 1 << 20  # bytes; a licence is no model
FIRST = "LICENSE"


def names(files: Iterable[str]) -> list[str]:
    """Those of the files of a repository that are its licence, which lies at its top."""
    return sorted(name for name in files if "/" not in name and NAME.fullmatch(name))


def beside(folder: Path) -> dict[str, Path]:
    """Licence files in a folder, by name."""
    try:
        found = {path.name: path for path in sorted(folder.iterdir()) if NAME.fullmatch(path.name)}
        return {name: path for name, path in found.items() if path.is_file() and path.stat().st_size <= LARGEST}
    except OSError:
        return {}


def written(texts: Iterable[str]) -> dict[str, Path]:
    """Texts of the maker's as files of the cache, by the names that they have in an artifact.

    Raises PermissionFailure when there is no cache, or OSError.
    """
    found = {}
    for number, text in enumerate(texts, 1):
        path = cache.folder("licences") / f"{hashlib.sha256(text.encode()).hexdigest()}.txt"
        if not path.exists() or path.read_bytes() != text.encode():
            draft = path.with_suffix(f".{os.getpid()}.partial")
            draft.write_bytes(text.encode())
            draft.replace(path)
        found[f"{OF_MAKER}LICENSE-{number:03}.txt"] = path
    return found


def members(licences: Mapping[str, Path]) -> dict[str, Path]:
    """The files by the names that they have in an artifact, each its own: `LICENSE` and `LICENSE.txt` are two files."""
    taken: dict[str, Path] = {}
    for name, path in sorted(licences.items()):
        stem, dot, ending = re.sub(r"[^A-Za-z0-9._-]", "_", name).partition(".")
        taken[_free(stem, f".{ending}" if dot else ".txt", taken)] = path
    return {MEMBERS + name: taken[name] for name in sorted(taken)}


def _free(stem: str, ending: str, taken: Iterable[str]) -> str:
    """A name that is not taken, not even by one that differs in capitals, which some file systems do not tell apart."""
    used = {name.casefold() for name in taken}
    names = (f"{stem}-{number}{ending}" if number else stem + ending for number in count())
    return next(name for name in names if name.casefold() not in used)
