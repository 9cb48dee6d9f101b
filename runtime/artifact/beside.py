"""Weights in files beside the program: finds them, and sees whether they are those that it was built with."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import IO

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.manifest import Beside, Manifest
from mkllm.runtime.artifact.reader import read_at
from mkllm.runtime.errors import NotAnArtifact, PermissionFailure, WeightsUnusable
from mkllm.runtime.platform.files import native

PLACE = "MKLLM_WEIGHTS"
SUFFIX = ".weights"
PROGRAM_SUFFIX = ".exe"
ENDS = 64 << 10  # bytes at each end: a few milliseconds, and no two models have them in common


def stem(program: str) -> str:
    """What the files beside a program are named after: its name without `.exe`."""
    has_suffix = program.lower().endswith(PROGRAM_SUFFIX) and len(program) > len(PROGRAM_SUFFIX)
    return program[: -len(PROGRAM_SUFFIX)] if has_suffix else program


def names(base: str, count: int) -> list[str]:
    """What the files are called when they are made: several as llama.cpp calls the parts of a model, which it finds by
    these names."""
    if count == 1:
        return [base + SUFFIX]
    return [f"{base}{SUFFIX}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def open_beside(program: str, manifest: Manifest) -> list[IO[bytes]]:
    """The files, open, in order. Raises WeightsUnusable when one is missing or has another size."""
    wrong: WeightsUnusable | None = None
    for place in _places(program, manifest.beside):
        if not any(os.path.lexists(native(path)) for path in place):
            continue
        try:
            return _open_all(program, manifest, place)
        except WeightsUnusable as failure:
            wrong = wrong or failure
    raise wrong or _missing(program, manifest, manifest.beside[0])


def expect_ends(program: str, manifest: Manifest, files: Sequence[IO[bytes]]) -> None:
    """Raise WeightsUnusable unless the files begin and end as they did when they were made; what is between is for
    `verify`."""
    for file, fact in zip(files, manifest.beside, strict=True):
        try:
            same = ends_of(file.fileno(), fact.size) == fact.ends
        except NotAnArtifact:
            same = False  # it became shorter
        if not same:
            raise _another(program, manifest, file.name, "it has the same size and another content")


def ends_of(descriptor: int, length: int) -> str:
    """SHA-256 (hex) of the first and the last ENDS bytes of an open file; of all where these would overlap."""
    first = min(length, ENDS)
    last = min(length - first, ENDS)
    found = hashlib.sha256(read_at(descriptor, 0, first))
    found.update(read_at(descriptor, length - last, last))
    return found.hexdigest()


def folder_of(program: str) -> str:
    """Where a program lies, also when it is named by a link, or was replaced while it runs."""
    return os.path.dirname(os.path.realpath(program))


def _places(program: str, files: Sequence[Beside]) -> Iterator[list[str]]:
    """Where the files may be: only where MKLLM_WEIGHTS says, if it says something; else beside the program, or the link
    to it, by the names that they were given, or by names after the program's own, if all were given another one."""
    told = os.path.abspath(os.environ[PLACE]) if os.environ.get(PLACE) else None
    recorded = [file.file for file in files]
    if told:
        yield [told] if len(files) == 1 and not os.path.isdir(told) else [os.path.join(told, name) for name in recorded]
        return
    folders = dict.fromkeys((folder_of(program), os.path.dirname(os.path.abspath(program))))
    for folder in folders:
        for own in (recorded, names(stem(os.path.basename(program)), len(files))):
            yield [os.path.join(folder, name) for name in own]


def _open_all(program: str, manifest: Manifest, place: Sequence[str]) -> list[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(_open(program, manifest, path, fact))
            for path, fact in zip(place, manifest.beside, strict=True)
        ]
        stack.pop_all()
    return files


def _open(program: str, manifest: Manifest, path: str, fact: Beside) -> IO[bytes]:
    if not os.path.isfile(native(path)):
        raise _missing(program, manifest, fact, os.path.dirname(path))
    try:
        file = open(native(path), "rb", buffering=0)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PermissionFailure(f"{path!r}, the weights of {program!r}, cannot be read ({reason}): check it") from None
    length = os.fstat(file.fileno()).st_size
    if length == fact.size:
        return file
    file.close()
    raise _another(program, manifest, path, f"it has {length:,} bytes instead of {fact.size:,}")


def _missing(program: str, manifest: Manifest, fact: Beside, folder: str | None = None) -> WeightsUnusable:
    where = folder or os.environ.get(PLACE) or folder_of(program)
    told = f" (which {PLACE} names)" if os.environ.get(PLACE) else ""
    more = f" of {len(manifest.beside)}" if len(manifest.beside) > 1 else ""
    return WeightsUnusable(
        f"{program!r} needs its weights, the file {fact.file!r} ({size(fact.size)}{more}), "
        f"which is not in {where!r}{told}: put it there, or set {PLACE} to its folder"
    )


def _another(program: str, manifest: Manifest, path: str, why: str) -> WeightsUnusable:
    return WeightsUnusable(
        f"{path!r} is not the file of weights that {program!r} was built with: {why}; copy the program and its weights "
        "again, both from the same build"
    )
