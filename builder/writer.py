"""Writes an artifact out of a kit and weights in one pass (spec/artifact.md); decides nothing."""

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder.adhoc import AdHoc, adhoc, is_signed
from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.model.divide import Division
from mkllm.builder.model.weights import Weights
from mkllm.builder.outputs import appear
from mkllm.builder.prepack import Prepacking, damaged
from mkllm.builder.read_back import read_back, read_back_beside
from mkllm.builder.stream import Content, Stream, Stretch
from mkllm.runtime.artifact import layout, macho, portable
from mkllm.runtime.artifact.beside import ends_of
from mkllm.runtime.artifact.copy import Copier, SourceFailure, write_at
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.draft import Draft, draft
from mkllm.runtime.artifact.layout import Comment, Entry, Place
from mkllm.runtime.artifact.macho import NotMachO
from mkllm.runtime.artifact.manifest import HEADER, MEMBER, PREPACKED, WEIGHTS, Beside, Blob, Manifest, Member


@dataclass(frozen=True)
class Facts:
    """All that a manifest says of what was written. `origin` is the SHA-256 of model.gguf."""

    bootloader: Blob
    pkg: Blob
    members: tuple[Member, ...]
    origin: str
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Program:
    """One artifact to write; the weights are in it unless they are `beside` it. `bootloader` stands for the kit's."""

    target: Path
    kit: Kit
    describe: Callable[[Facts], Manifest]
    beside: bool = False
    bootloader: bytes | None = None


@dataclass(frozen=True)
class Shelf:
    """The files of weights beside programs, which all of these have in common."""

    files: tuple[Path, ...]
    division: Division


def size_of(kit: Kit, weights: int) -> int:
    """About how many bytes an artifact with so many bytes of weights will take; the manifest is not counted."""
    return layout.pkg_offset(_places(kit, WEIGHTS if weights else None, weights)) + kit.files["runtime.pkg"].size


def work_of(programs: Sequence[Program], shelf: Shelf | None, weights: Weights, prepacking: Prepacking | None) -> int:
    """About how many bytes `write` tells of: prepacked weights are ordered, undone and read once more, the parts of a
    model are read once more, and so is a program that is signed ad hoc."""
    sizes = [(program.kit.target, size_of(program.kit, 0 if program.beside else weights.size)) for program in programs]
    signed = sum(size for target, size in sizes if is_signed(target, size))
    times = (1 + (len(shelf.files) > 1) if shelf else 0) + (3 if prepacking else 0)
    return sum(size for _, size in sizes) + signed + times * weights.size


def write(
    programs: Sequence[Program],
    weights: Weights,
    *,
    force: bool,
    progress: Callable[[int], None],
    prepacking: Prepacking | None = None,
    shelf: Shelf | None = None,
    finish: Callable[[Program, Draft], None] = lambda program, new: None,
) -> list[Manifest]:
    """Write artifacts of one model, which is read once; `progress` is told bytes as they are dealt with.

    Nothing appears at the targets, and what is there stays, until all files are whole, read back and on the disk.
    `finish` is called with each program once it is written and read back. Prepacked weights are for one program.
    Returns the manifests.
    """
    with contextlib.ExitStack() as stack:
        digest = stack.enter_context(Digest())

        def begin(path: Path) -> tuple[Draft, Copier]:
            new = stack.enter_context(draft(path))
            return new, stack.enter_context(Copier(new.descriptor, digest, progress))

        shelved = [begin(path) for path in shelf.files] if shelf else []
        begun = [begin(program.target) for program in programs]
        writers = [
            _Writer(program, new.descriptor, digest, copier, progress)
            for program, (new, copier) in zip(programs, begun, strict=True)
        ]
        sinks = [writer.begin(weights) for writer in writers]
        if shelf:
            sinks.append(_shelf_sink(shelf, [copier for _, copier in shelved]))
        stream = Stream(weights, digest, [sink for sink in sinks if sink])
        content = stream.run()
        if prepacking:
            place = shelved[0][0].descriptor if shelf else begun[0][0].descriptor
            content = _prepack(prepacking, place, 0 if shelf else writers[0].at, content, digest, progress)
        beside = _beside(shelf, [new for new, _ in shelved], content, digest, progress) if shelf else ()
        made = [writer.finish(content, beside, shelf, weights) for writer in writers]
        for program, (new, _) in zip(programs, begun, strict=True):
            read_back(new.path, None if program.beside else weights)
        if shelf and not prepacking:
            for path, part, (new, _) in zip(shelf.files, shelf.division.parts, shelved, strict=True):
                read_back_beside(path, part, new.descriptor, weights)
        for program, (new, _) in zip(programs, begun, strict=True):
            finish(program, new)
        appear([new for new, _ in shelved], [new for new, _ in begun], force)
    return made


def _shelf_sink(shelf: Shelf, copiers: Sequence[Copier]) -> list[Stretch]:
    sink = []
    for part, copier in zip(shelf.division.parts, copiers, strict=True):
        copier.put(part.header)
        sink.append(Stretch(copier, part.start, part.end, len(part.header)))
    return sink


def _prepack(
    prepacking: Prepacking, target: int, at: int, plain: Content, digest: Digest, progress: Callable[[int], None]
) -> Content:
    """Order the weights at `at`, and have them undone once to see that nothing is lost."""
    ordered = prepacking.order(target, at, plain.size, progress)
    prepacking.check(target, at, ordered)
    again = hashlib.sha256()
    for piece in prepacking.plain(target, at, ordered):
        again.update(piece)
        progress(len(piece))
    if again.hexdigest() != plain.origin or not digest.read(target, at, ordered, progress):
        raise damaged()
    return Content(PREPACKED, ordered, *digest.finish(), plain.origin)


def _beside(
    shelf: Shelf, drafts: Sequence[Draft], content: Content, digest: Digest, progress: Callable[[int], None]
) -> tuple[Beside, ...]:
    """What the programs are to know of these files."""
    found = []
    for path, part, new in zip(shelf.files, shelf.division.parts, drafts, strict=True):
        size, sha256 = content.size, content.sha256
        if len(drafts) > 1:
            size = part.size
            if not digest.read(new.descriptor, 0, size, progress):
                raise damaged()
            sha256, _ = digest.finish()
        found.append(Beside(path.name, size, len(part.header), sha256, ends_of(new.descriptor, size)))
    return tuple(found)


def _places(kit: Kit, name: str | None, size: int, boot: int | None = None) -> list[Place]:
    """Of what is of the model in the program, if anything is, and of the kit's members; `boot` is the size of the
    bootloader when it is not the kit's."""
    members = [(member, kit.files[MEMBERS + member].size) for member in kit.members()]
    first = kit.files["bootloader"].size if boot is None else boot
    return layout.place(first, [*([(name, size)] if name else []), *members])


class _Writer:
    """Puts the parts of one artifact into an open file, in file order."""

    def __init__(
        self, program: Program, target: int, digest: Digest, copier: Copier, progress: Callable[[int], None]
    ) -> None:
        self._program = program
        self._kit = program.kit
        self._target = target
        self._digest = digest
        self._copier = copier
        self._progress = progress
        self._entries: list[Entry] = []
        self._boot = Blob(0, "")
        self.at = 0  # where weights that are in the program begin

    def begin(self, weights: Weights) -> list[Stretch]:
        """Write what comes before the weights, and say where these go."""
        self._boot = self._bootloader()
        if self._program.beside:
            return []
        self.at = _places(self._kit, WEIGHTS, weights.size, self._boot.size)[0].data
        return [Stretch(self._copier, 0, weights.size, self.at)]

    def finish(self, content: Content, beside: tuple[Beside, ...], shelf: Shelf | None, weights: Weights) -> Manifest:
        """Write what comes behind the weights; `beside` are those of all programs."""
        beside = beside if self._program.beside else ()
        first: str | None = content.name
        size = content.size
        header = weights.read(0, shelf.division.header) if shelf and beside and shelf.division.header else b""
        if beside:
            first, size = HEADER if header else None, len(header)
        places = _places(self._kit, first, size, self._boot.size)
        members = []
        if header:
            members.append(self._bytes(header, places[0]))
        elif first:
            members.append(self._finish(places[0], content.sha256, content.crc))
        members += [self._member(place) for place in places[len(members) :]]
        pkg = Blob(self._kit.files["runtime.pkg"].size, self._kit.files["runtime.pkg"].sha256)
        manifest = self._program.describe(Facts(self._boot, pkg, tuple(members), content.origin, beside))
        signing = self._adhoc(manifest, places)
        if signing:
            manifest = replace(manifest, bootloader=signing.blob)
            write_at(self._target, signing.program, 0)
        data = manifest.to_bytes()
        sizes = [(place.name, place.size) for place in places]
        told = self._bytes(data, layout.place(self._boot.size, [*sizes, (MEMBER, len(data))])[-1])
        start = layout.pkg_offset([entry.place for entry in self._entries])
        _, crc = self._kit_file("runtime.pkg", start)
        self._end(signing.place[1] if signing else start + pkg.size, crc, told.sha256)
        if signing:
            signature = macho.sign(self._target, signing.program, signing.place, self._progress)
            write_at(self._target, signature, signing.place[0])
        return manifest

    def _adhoc(self, manifest: Manifest, places: Sequence[Place]) -> AdHoc | None:
        if manifest.target != layout.MACOS:
            return None
        try:
            return adhoc((self._kit.path / "bootloader").read_bytes(), manifest, places)
        except (OSError, NotMachO):
            raise self._kit.damaged("bootloader") from None

    def _bootloader(self) -> Blob:
        """Written with zeros for what a signature changes."""
        if (own := self._program.bootloader) is not None:
            self._copier.write(portable.uncounted(own), 0)
            return Blob(len(own), self._digest.finish()[0])
        file = self._kit.files["bootloader"]
        try:
            data = (self._kit.path / "bootloader").read_bytes()
        except OSError:
            raise self._kit.damaged("bootloader") from None
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            raise self._kit.damaged("bootloader")
        self._copier.write(portable.uncounted(data), 0)
        return Blob(file.size, self._digest.finish()[0])

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

    def _bytes(self, data: bytes, place: Place) -> Member:
        self._copier.write(data, place.data)
        return self._finish(place, *self._digest.finish())

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
