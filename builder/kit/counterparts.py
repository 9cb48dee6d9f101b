"""A runtime that was frozen on one system, made one for another of the same kind: what is compiled gives way to its
counterpart, one for one, and what is Python is the same on both, which is checked. Knows not what any of it is for.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import python
from mkllm.builder.kit.pkg import BINARY, Entry, Pkg
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import Target


def counterparts(pkg: Pkg, here: Target, ours: Path, there: Target, theirs: Path) -> Pkg:
    """The PKG for `there`, out of one that was frozen `here`. `ours` and `theirs` are the Pythons with packages that it
    is made of, one for each system.

    Raises ToolFailed where something has no counterpart there, or where the two differ in anything written in Python.
    """
    _check_same(here, ours, there, theirs)
    return replace(pkg, entries=tuple(_counterpart(entry, here, there, theirs) for entry in pkg.entries))


def _check_same(here: Target, ours: Path, there: Target, theirs: Path) -> None:
    own = {f"{python.sysconfig_name(target)}.py" for target in (here, there)}

    def hashes(environment: Path) -> dict[str, str]:
        library = python.library_folder(environment)
        files = {path.relative_to(library): path for path in library.rglob("*.py")}
        return {name.as_posix(): sha256(path) for name, path in files.items() if name.as_posix() not in own}

    mine, others = hashes(ours), hashes(theirs)
    if different := sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name)):
        raise ToolFailed(
            f"{different[0]!r} is not the same for {here.name!r} and {there.name!r} ({len(different)} files are not): "
            "what is frozen on one cannot be made to run on the other; pin other versions of the packages"
        )


def _counterpart(entry: Entry, here: Target, there: Target, theirs: Path) -> Entry:
    if entry.kind != BINARY:
        return entry
    name = entry.name.replace(here.triplet, there.triplet)
    if PurePosixPath(name).name == python.library_name():
        source = theirs / "lib" / python.library_name()
    else:
        source = python.library_folder(theirs) / "site-packages" / name
    if not source.is_file():
        raise ToolFailed(
            f"{entry.name!r} of the runtime has no counterpart for {there.name!r}: there is no {name!r} in the "
            "packages for it; pin versions that have one"
        )
    return replace(entry, name=name, data=source.read_bytes())
