"""Takes one member out of an artifact, bit for bit."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mkllm.runtime.artifact.copy import Copier, SourceFailure
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.draft import draft, failure
from mkllm.runtime.artifact.manifest import HEADER, WEIGHTS, Member
from mkllm.runtime.artifact.reader import Artifact, Stretch
from mkllm.runtime.errors import Different, TargetExists


def extract(
    artifact: Artifact,
    member: str = WEIGHTS,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    *,
    force: bool = False,
    restore: Callable[[], Iterable[bytes]] | None = None,
) -> Path:
    """Write a member to `out` (a file, or a folder to put it in; default: its own name here) and return the path.

    The file appears only when it is whole and its SHA-256 is the recorded one. `progress` is told bytes as they come.
    The model is always the plain one: where its weights are prepacked, it is what `restore` gives.
    """
    fact = extracted(artifact, member)
    if member == artifact.manifest.model.member or is_restored(artifact, member):
        artifact.model(compared=False)  # what lies beside is open from here on
    target = _target(artifact, os.path.basename(member), out, force)
    with draft(target) as new, Digest() as digest, Copier(new.descriptor, digest, progress) as copier:
        if is_restored(artifact, member):
            assert restore is not None
            at = 0
            for piece in restore():
                copier.write(piece, at)
                at += len(piece)
        else:
            _copy(artifact, member, copier)
        if digest.finish()[0] != fact.sha256:
            raise Different(f"{artifact.path!r} is damaged: {member!r} is not what was built; copy the file again")
        new.commit(0o644, force)
    return target


def _copy(artifact: Artifact, member: str, copier: Copier) -> None:
    at = 0
    for stretch in _stretches(artifact, member):
        try:
            copier.copy(stretch.descriptor, stretch.offset, stretch.size, at)
        except SourceFailure as error:
            raise Different(f"{stretch.path!r} {error}: copy the file again") from None
        at += stretch.size


def _stretches(artifact: Artifact, member: str) -> Iterator[Stretch]:
    """Where the bytes lie; those of a model beside the program in other files, behind their header here."""
    is_beside = artifact.manifest.beside and member == artifact.manifest.model.member
    if not is_beside or len(artifact.manifest.beside) > 1:
        place = artifact.member(HEADER if is_beside else member)
        yield Stretch(artifact.path, artifact.fileno(), place.offset, place.size)
    if is_beside:
        yield from artifact.model(compared=False)


def is_restored(artifact: Artifact, member: str) -> bool:
    """Whether this is the model, and lies prepacked in the file."""
    return member == WEIGHTS and artifact.manifest.prepacked is not None


def extracted(artifact: Artifact, member: str) -> Member:
    """Size and hash of what is extracted under that name. Raises NoSuchMember."""
    prepacked = artifact.manifest.prepacked
    if prepacked and member == WEIGHTS:
        return replace(artifact.weights, name=WEIGHTS, size=prepacked.size, sha256=artifact.manifest.provenance.sha256)
    return artifact.weights if member == artifact.manifest.model.member else artifact.member(member)


def _target(artifact: Artifact, base: str, out: Path | None, force: bool) -> Path:
    """Where the member goes. Raises TargetExists, or PermissionFailure when that cannot be seen."""
    try:
        target = Path(base) if out is None else out / base if out.is_dir() else out
        if artifact.is_own(target):
            raise TargetExists(f"{str(target)!r} is the artifact itself: choose another name")
    except OSError as error:
        raise failure(error, out or Path(base)) from None
    if os.path.lexists(target) and not force:
        raise TargetExists(f"{str(target)!r} exists already: choose another name with -o, or overwrite it with --force")
    return target
