"""Compares every byte of an artifact with what its manifest, directory and format promise."""

import hashlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from mkllm.runtime.artifact import layout, portable
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.manifest import MEMBER
from mkllm.runtime.artifact.reader import Artifact, read_at
from mkllm.runtime.errors import NotAnArtifact

SIGNATURE = "code signature"


@dataclass(frozen=True)
class Difference:
    """A part of the file that is not what was built: `size` bytes from `offset`; the first wrong byte when `exact`."""

    part: str
    offset: int
    size: int
    exact: bool

    def __str__(self) -> str:
        if self.exact:
            return f"{self.part}: the byte at offset {self.offset} is not what was built"
        return f"{self.part}: its {self.size} bytes from offset {self.offset} are not what was built"


def size_of(artifact: Artifact) -> int:
    """Bytes of the file and of those beside it."""
    return artifact.size + sum(file.size for file in artifact.manifest.beside)


@dataclass(frozen=True)
class Fixed:
    """Bytes that follow from the format."""

    part: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Hashed:
    """Bytes known by their hashes; a hash that is not recorded is None."""

    part: str
    offset: int
    size: int
    sha256: str | None
    crc: int | None
    descriptor: int


@dataclass(frozen=True)
class Bootloader:
    """The first bytes, in which a signature may have changed what is not counted."""

    part: str
    offset: int
    size: int
    sha256: str


def verify(
    artifact: Artifact,
    progress: Callable[[int], None] = lambda done: None,
    *,
    without: Container[str] = (),
    beside: bool = True,
) -> list[Difference]:
    """Every part that differs, in file order; `progress` is told the number of bytes looked at since its last call.

    Members named in `without` are not read, nor, unless `beside`, the files beside it. Opening the artifact has checked
    manifest, central directory and end record already. Raises WeightsUnusable when weights beside the file are missing
    or have another size.
    """
    with Digest() as digest:
        parts = [*_parts(artifact), *_beside(artifact)] if beside else _parts(artifact)
        found = [_look(artifact, part, digest, progress) for part in parts if part.part not in without]
        differences = [difference for difference in found if difference]
        # Made of all the rest: with that wrong, it says nothing.
        if not differences and SIGNATURE not in without and (signature := _signature(artifact)):
            differences += filter(None, [_look(artifact, signature, digest, progress)])
    return differences


def _parts(artifact: Artifact) -> Iterator[Bootloader | Fixed | Hashed]:
    """Everything from the first byte to the central directory, in file order and without a gap."""
    manifest, entries, own = artifact.manifest, artifact.entries, artifact.fileno()
    boot, pkg = manifest.bootloader, manifest.pkg
    yield Bootloader("bootloader", 0, boot.size, boot.sha256)
    yield _zeros("padding behind the bootloader", boot.size, entries[0].place.start)
    for entry in entries:
        name, place = entry.place.name, entry.place
        yield Fixed(f"header of {name}", place.start, layout.local_header(entry))
        yield Hashed(name, place.data, place.size, artifact.member(name).sha256, entry.crc, own)
    start = layout.pkg_offset([entry.place for entry in entries])
    yield _zeros("padding before the PKG", entries[-1].place.end, start)
    yield Hashed("PKG", start, pkg.size, pkg.sha256, artifact.comment.pkg_crc, own)
    if signed := _signed_range(artifact):
        yield _zeros("padding behind the PKG", start + pkg.size, signed[0])


def _beside(artifact: Artifact) -> Iterator[Hashed]:
    """The files beside it, whole; their offsets are those in these files."""
    if not artifact.manifest.beside:
        return
    for stretch, fact in zip(artifact.model(compared=False), artifact.manifest.beside, strict=True):
        yield Hashed(fact.file, 0, fact.size, fact.sha256, None, stretch.descriptor)


def _signed_range(artifact: Artifact) -> tuple[int, int] | None:
    manifest, entries = artifact.manifest, artifact.entries
    pkg_end = layout.pkg_offset([entry.place for entry in entries]) + manifest.pkg.size
    return layout.signed_range(manifest.target, pkg_end, entries)


def _signature(artifact: Artifact) -> Fixed | None:
    """The code signature that this file has to have; None where it has none."""
    if not (signed := _signed_range(artifact)):
        return None
    from mkllm.runtime.artifact import macho

    program = read_at(artifact.fileno(), 0, artifact.manifest.bootloader.size)
    try:
        return Fixed(SIGNATURE, signed[0], macho.sign(artifact.fileno(), program, signed))
    except macho.NotMachO as error:
        raise NotAnArtifact(f"{artifact.path!r} cannot be used: its program is none for macOS ({error})") from None


def _zeros(part: str, start: int, end: int) -> Fixed:
    return Fixed(part, start, bytes(end - start))


def _look(
    artifact: Artifact, part: Bootloader | Fixed | Hashed, digest: Digest, progress: Callable[[int], None]
) -> Difference | None:
    if isinstance(part, Bootloader):
        return _look_at_bootloader(artifact, part, progress)
    if isinstance(part, Fixed):
        data = read_at(artifact.fileno(), part.offset, len(part.data))
        progress(len(data))
        return None if data == part.data else Difference(part.part, part.offset + _first(data, part.data), 1, True)
    digest.read(part.descriptor, part.offset, part.size, progress)
    sha256, crc = digest.finish()
    same = part.sha256 in (None, sha256) and part.crc in (None, crc) and _is_canonical(artifact, part)
    return None if same else Difference(part.part, part.offset, part.size, False)


def _look_at_bootloader(artifact: Artifact, part: Bootloader, progress: Callable[[int], None]) -> Difference | None:
    data = read_at(artifact.fileno(), 0, part.size)
    progress(len(data))
    counted = portable.uncounted(data)
    if counted != data and not artifact.is_signed:
        return Difference(part.part, _first(data, counted), 1, True)
    same = hashlib.sha256(counted).hexdigest() == part.sha256
    return None if same else Difference(part.part, part.offset, part.size, False)


def _is_canonical(artifact: Artifact, part: Hashed) -> bool:
    """Whether the manifest, if `part` is it, is written exactly as the builder writes it."""
    if part.part != MEMBER:
        return True
    return read_at(artifact.fileno(), part.offset, part.size) == artifact.manifest.to_bytes()


def _first(data: bytes, expected: bytes) -> int:
    return next(i for i, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
