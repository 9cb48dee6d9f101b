"""Licence files that come with a model: which names they have, and what they are called in an artifact."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

NAME = re.compile(r"(licen[cs]e|copying|notice|use[_-]policy|terms)([._-][a-z0-9._-]*)?", re.IGNORECASE)
MEMBERS = "licenses/model/"
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


def members(licences: Mapping[str, Path]) -> dict[str, Path]:
    """The files by the names that they have in an artifact."""
    taken = {MEMBERS + re.sub(r"[^A-Za-z0-9._-]", "_", name): path for name, path in licences.items()}
    return {name if "." in name.rpartition("/")[2] else f"{name}.txt": path for name, path in sorted(taken.items())}
