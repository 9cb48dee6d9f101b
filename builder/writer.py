"""Writes an artifact out of a kit and weights in one pass (spec/artifact.md); decides nothing."""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mkllm.builder.errors import BuilderFailure, UnusableModel
from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.model import digests
from mkllm.builder.model.weights import Span, Weights
from mkllm.builder.prepack import Prepacking, damaged
from mkllm.runtime.artifact import layout
from mkllm.runtime.artifact.copy import Copier, SourceFailure, write_at
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.draft import draft
from mkllm.runtime.artifact.layout import Comment, Entry, Place
from mkllm.runtime.artifact.manifest import MEMBER, PREPACKED, WEIGHTS, Blob, Manifest, Member
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import RuntimeFailure

SAMPLES = 64
SAMPLE_SIZE = 64 << 10

# From the bootloader, the PKG, the members that were written and the SHA-256 of model.gguf all that the manifest says.
Describe = Callable[[Blob, Blob, tuple[Member, ...], str], Manifest]


def size_of(kit: Kit, weights: Weights) -> int:
    """About how many bytes the artifact will take; the manifest is not counted."""
    return layout.pkg_offset(_places(kit, WEIGHTS, weights.size)) + kit.files["runtime.pkg"].size


def work_of(kit: Kit, weights: Weights, prepacking: Prepacking | None) -> int:
    """About how many bytes `write` tells of: prepacked weights are ordered, undone and read once more."""
    return size_of(kit, weights) + (3 * weights.size if prepacking else 0)


def write(
    target: Path,
    kit: Kit,
    weights: Weights,
    describe: Describe,
    *,
    force: bool,
    progress: Callable[[int], None],
    prepacking: Prepacking | None = None,
) -> Manifest:
    """Write the artifact `target`; `progress` is told bytes as they are dealt with. Returns its manifest.

    Nothing appears at `target`, and what is there stays, until the file is whole, read back and on the disk.
    """
    with draft(target) as new, Digest() as digest, Copier(new.descriptor, digest, progress) as copier:
        manifest = _Writer(kit, new.descriptor, digest, copier, prepacking, progress).write(weights, describe)
        _read_back(new.path, weights)
        new.commit(0o755, force)
    return manifest


def _places(kit: Kit, name: str, size: int) -> list[Place]:
    """Of the weights' member and the kit's."""
    members = [(member, kit.files[MEMBERS + member].size) for member in kit.members()]
    return layout.place(kit.files["bootloader"].size, [(name, size), *members])


class _Writer:
    """Puts the parts of one artifact into an open file, in file order."""

    def __init__(
        self,
        kit: Kit,
        target: int,
        digest: Digest,
        copier: Copier,
        prepacking: Prepacking | None,
        progress: Callable[[int], None],
    ) -> None:
        self._kit = kit
        self._target = target
        self._digest = digest
        self._copier = copier
        self._prepacking = prepacking
        self._progress = progress
        self._entries: list[Entry] = []

    def write(self, weights: Weights, describe: Describe) -> Manifest:
        boot, _ = self._kit_file("bootloader", 0)
        at = _places(self._kit, WEIGHTS, weights.size)[0].data
        origin, crc = self._weights(weights, at)
        name, size, sha256 = WEIGHTS, weights.size, origin
        if self._prepacking:
            name, size = PREPACKED, self._prepack(self._prepacking, at, weights.size, origin)
            if not self._digest.read(self._target, at, size, self._progress):
                raise damaged()
            sha256, crc = self._digest.finish()
        places = _places(self._kit, name, size)
        members = (self._finish(places[0], sha256, crc), *(self._member(place) for place in places[1:]))
        pkg = Blob(self._kit.files["runtime.pkg"].size, self._kit.files["runtime.pkg"].sha256)
        manifest = describe(boot, pkg, members, origin)
        sha256 = self._manifest(manifest.to_bytes(), boot.size, places)
        start = layout.pkg_offset([entry.place for entry in self._entries])
        _, crc = self._kit_file("runtime.pkg", start)
        self._end(start + pkg.size, crc, sha256)
        return manifest

    def _kit_file(self, name: str, at: int) -> tuple[Blob, int]:
        """Copy a file of the kit to `at`; its size and hash, compared with kit.json, and its CRC-32."""
        file = self._kit.files[name]
        try:
            with self._kit.place(name).open("rb", buffering=0) as source:
                self._copier.copy(source.fileno(), 0, file.size, at)
        except (FileNotFoundError, PermissionError, SourceFailure):
            raise self._kit.damaged(name) from None
        sha256, crc = self._digest.finish()
        if sha256 != file.sha256:
            raise self._kit.damaged(name)
        return Blob(file.size, sha256), crc

    def _member(self, place: Place) -> Member:
        blob, crc = self._kit_file(MEMBERS + place.name, place.data)
        return self._finish(place, blob.sha256, crc)

    def _weights(self, weights: Weights, at: int) -> tuple[str, int]:
        """Copy the weights to `at`; their hashes."""
        hashed = digests.known(weights)
        for segment in weights.segments:
            if isinstance(segment, bytes):
                self._copier.write(segment, at)
                at += len(segment)
            else:
                self._span(segment, at, self._copier.move if hashed else self._copier.copy)
                at += segment.size
        sha256, crc = self._digest.finish()
        if hashed:
            return hashed
        digests.remember(weights, sha256, crc)
        return sha256, crc

    def _prepack(self, prepacking: Prepacking, at: int, size: int, origin: str) -> int:
        """Order the weights at `at`, and have them undone once to see that nothing is lost. The size they have now."""
        ordered = prepacking.order(self._target, at, size, self._progress)
        prepacking.check(self._target, at, ordered)
        plain = hashlib.sha256()
        for piece in prepacking.plain(self._target, at, ordered):
            plain.update(piece)
            self._progress(len(piece))
        if plain.hexdigest() != origin:
            raise damaged()
        return ordered

    def _span(self, span: Span, at: int, copy: Callable[[int, int, int, int], None]) -> None:
        with _closing(span.open()) as source:
            try:
                copy(source, span.offset, span.size, at)
            except SourceFailure as error:
                raise UnusableModel(f"the model file {str(span.path)!r} {error}: check it and its disk") from None
            span.check(source)

    def _manifest(self, data: bytes, boot: int, places: Sequence[Place]) -> str:
        sizes = [(place.name, place.size) for place in places]
        place = layout.place(boot, [*sizes, (MEMBER, len(data))])[-1]
        self._copier.write(data, place.data)
        return self._finish(place, *self._digest.finish()).sha256

    def _finish(self, place: Place, sha256: str, crc: int) -> Member:
        """The member's bytes are written: its header can be."""
        self._entries.append(Entry(place, crc))
        write_at(self._target, layout.local_header(self._entries[-1]), place.start)
        return Member(place.name, place.data, place.size, sha256)

    def _end(self, at: int, pkg_crc: int, manifest_sha256: str) -> None:
        directory = layout.directory(self._entries)
        comment = Comment(self._kit.id, pkg_crc, manifest_sha256, zlib.crc32(directory))
        end = layout.end(len(self._entries), at, len(directory), comment.to_bytes())
        write_at(self._target, directory + end, at)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_back(path: Path, weights: Weights) -> None:
    """Open what was written as the runtime will, verify all but the weights, and compare samples of those with their
    source: reading all of them once more would cost as much as the build."""
    try:
        with open_artifact(path) as artifact:
            wrong = [str(difference) for difference in verify(artifact, without={artifact.weights.name})]
            start, samples = artifact.weights.offset, _samples(weights.size)
            if not artifact.manifest.prepacked:  # those were compared as a whole
                wrong += [WEIGHTS for at in samples if not _is_same(artifact.fileno(), start, weights, at)]
    except RuntimeFailure as error:
        wrong = [str(error)]
    if wrong:
        raise BuilderFailure(f"what was written was read back differently ({wrong[0]}): check the disk and the memory")


def _samples(size: int) -> set[int]:
    last = max(0, size - SAMPLE_SIZE)
    return {last * i // (SAMPLES - 1) for i in range(SAMPLES)}


def _is_same(descriptor: int, start: int, weights: Weights, at: int) -> bool:
    size = min(SAMPLE_SIZE, weights.size - at)
    return os.pread(descriptor, size, start + at) == weights.read(at, size)
