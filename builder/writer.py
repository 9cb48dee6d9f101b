"""Writes an artifact out of a kit and weights in one pass (spec/artifact.md); decides nothing."""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder.adhoc import AdHoc, adhoc, is_signed
from mkllm.builder.errors import BuilderFailure, UnusableModel
from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.model import digests
from mkllm.builder.model.divide import Division
from mkllm.builder.model.weights import Span, Weights
from mkllm.builder.outputs import appear
from mkllm.builder.prepack import Prepacking, damaged
from mkllm.runtime.artifact import layout, macho, portable
from mkllm.runtime.artifact.beside import ends_of
from mkllm.runtime.artifact.copy import Copier, SourceFailure, write_at
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.draft import Draft, draft
from mkllm.runtime.artifact.layout import Comment, Entry, Place
from mkllm.runtime.artifact.macho import NotMachO
from mkllm.runtime.artifact.manifest import HEADER, MEMBER, PREPACKED, WEIGHTS, Beside, Blob, Manifest, Member
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import SIGNATURE, verify
from mkllm.runtime.errors import RuntimeFailure

SAMPLES = 64
SAMPLE_SIZE = 64 << 10
STEP = 64 << 20  # what is read for one file is still in memory when it is copied for the next


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
        stream = _Stream(weights, digest, [sink for sink in sinks if sink])
        content = stream.run()
        if prepacking:
            place = shelved[0][0].descriptor if shelf else begun[0][0].descriptor
            content = _prepack(prepacking, place, 0 if shelf else writers[0].at, content, digest, progress)
        beside = _beside(shelf, [new for new, _ in shelved], content, digest, progress) if shelf else ()
        made = [writer.finish(content, beside, shelf, weights) for writer in writers]
        for program, (new, _) in zip(programs, begun, strict=True):
            _read_back(new.path, None if program.beside else weights)
        if shelf and not prepacking:
            _compare(shelf, [new.descriptor for new, _ in shelved], weights)
        for program, (new, _) in zip(programs, begun, strict=True):
            finish(program, new)
        appear([new for new, _ in shelved], [new for new, _ in begun], force)
    return made


@dataclass(frozen=True)
class _Content:
    """The bytes that are stored as the model: as which member, and the SHA-256 of the plain ones."""

    name: str
    size: int
    sha256: str
    crc: int
    origin: str


@dataclass(frozen=True)
class _Stretch:
    """Bytes of the model from `start` to `end` go to the file of `copier`, from `at` on."""

    copier: Copier
    start: int
    end: int
    at: int


def _shelf_sink(shelf: Shelf, copiers: Sequence[Copier]) -> list[_Stretch]:
    sink = []
    for part, copier in zip(shelf.division.parts, copiers, strict=True):
        copier.put(part.header)
        sink.append(_Stretch(copier, part.start, part.end, len(part.header)))
    return sink


class _Stream:
    """The model's bytes on their way from its files into all that they are written to, hashed once."""

    def __init__(self, weights: Weights, digest: Digest, sinks: Sequence[Sequence[_Stretch]]) -> None:
        self._weights = weights
        self._digest = digest
        self._stretches = [stretch for sink in sinks for stretch in sink]
        self._several = len(self._stretches) > 1
        self._hashed = digests.known(weights)

    def run(self) -> _Content:
        at = 0
        for segment in self._weights.segments:
            size = len(segment) if isinstance(segment, bytes) else segment.size
            if isinstance(segment, bytes):
                for first, last in self._pieces(at, size):
                    self._bytes(segment[first - at : last - at], first)
            else:
                self._span(segment, at)
            at += size
        sha256, crc = self._digest.finish()
        if self._hashed:
            sha256, crc = self._hashed
        else:
            digests.remember(self._weights, sha256, crc)
        return _Content(WEIGHTS, at, sha256, crc, sha256)

    def _pieces(self, at: int, size: int) -> Iterator[tuple[int, int]]:
        """The bytes from `at` on, in pieces that go to the same files; not too large ones if these are several."""
        end, cuts = at + size, {edge for stretch in self._stretches for edge in (stretch.start, stretch.end)}
        while at < end:
            stop = min((cut for cut in cuts if at < cut < end), default=end)
            stop = min(stop, at + STEP) if self._several else stop
            yield at, stop
            at = stop

    def _takers(self, at: int) -> list[_Stretch]:
        return [stretch for stretch in self._stretches if stretch.start <= at < stretch.end]

    def _bytes(self, data: bytes, at: int) -> None:
        if not self._hashed:
            self._digest.add(data)
        for taker in self._takers(at):
            taker.copier.put(data, taker.at + at - taker.start)

    def _span(self, span: Span, at: int) -> None:
        with _closing(span.open()) as source:
            for first, last in self._pieces(at, span.size):
                try:
                    self._piece(source, span.offset + first - at, first, last)
                except SourceFailure as error:
                    raise UnusableModel(f"the model file {str(span.path)!r} {error}: check it and its disk") from None
            span.check(source)

    def _piece(self, source: int, offset: int, first: int, last: int) -> None:
        takers = self._takers(first)
        if not takers and not self._hashed and not self._digest.read(source, offset, last - first, lambda done: None):
            raise SourceFailure("became shorter while it was read")
        for number, taker in enumerate(takers):
            copy = taker.copier.move if number or self._hashed else taker.copier.copy
            copy(source, offset, last - first, taker.at + first - taker.start)


def _prepack(
    prepacking: Prepacking, target: int, at: int, plain: _Content, digest: Digest, progress: Callable[[int], None]
) -> _Content:
    """Order the weights at `at`, and have them undone once to see that nothing is lost."""
    ordered = prepacking.order(target, at, plain.size, progress)
    prepacking.check(target, at, ordered)
    again = hashlib.sha256()
    for piece in prepacking.plain(target, at, ordered):
        again.update(piece)
        progress(len(piece))
    if again.hexdigest() != plain.origin or not digest.read(target, at, ordered, progress):
        raise damaged()
    return _Content(PREPACKED, ordered, *digest.finish(), plain.origin)


def _beside(
    shelf: Shelf, drafts: Sequence[Draft], content: _Content, digest: Digest, progress: Callable[[int], None]
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

    def begin(self, weights: Weights) -> list[_Stretch]:
        """Write what comes before the weights, and say where these go."""
        self._boot = self._bootloader()
        if self._program.beside:
            return []
        self.at = _places(self._kit, WEIGHTS, weights.size, self._boot.size)[0].data
        return [_Stretch(self._copier, 0, weights.size, self.at)]

    def finish(self, content: _Content, beside: tuple[Beside, ...], shelf: Shelf | None, weights: Weights) -> Manifest:
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


@dataclass(frozen=True)
class _Signing:
    """The program that a file begins with which is signed, and where its signature lies."""

    program: bytes
    place: tuple[int, int]

    @property
    def blob(self) -> Blob:
        return Blob(len(self.program), hashlib.sha256(self.program).hexdigest())


def _signing(kit: Kit, manifest: Manifest, places: Sequence[Place]) -> _Signing | None:
    """How the file that `manifest` describes is signed; None where it is not."""
    sizes = [(place.name, place.size) for place in places]
    # Hashes are all of one length, so the manifest has this one with any.
    placed = layout.place(manifest.bootloader.size, [*sizes, (MEMBER, len(manifest.to_bytes()))])
    end = layout.pkg_offset(placed) + manifest.pkg.size
    signed = layout.signed_range(manifest.target, end, [Entry(place, 0) for place in placed])
    if not signed:
        return None
    file_end = signed[1] + len(layout.directory([Entry(place, 0) for place in placed])) + layout.END_SIZE
    try:
        return _Signing(macho.grown((kit.path / "bootloader").read_bytes(), signed[0], file_end), signed)
    except (OSError, NotMachO):
        raise kit.damaged("bootloader") from None


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_back(path: Path, weights: Weights | None) -> None:
    """Open what was written as the runtime will, verify all but the weights, and compare samples of those with their
    source: reading all of them once more would cost as much as the build."""
    try:
        with open_artifact(path) as artifact:
            name = artifact.weights.name
            wrong = [str(difference) for difference in verify(artifact, without={name, SIGNATURE}, beside=False)]
            if weights and not artifact.manifest.prepacked:  # those were compared as a whole
                start, samples = artifact.weights.offset, _samples(0, weights.size)
                wrong += [WEIGHTS for at in samples if not _is_same(artifact.fileno(), start + at, weights, at)]
    except RuntimeFailure as error:
        wrong = [str(error)]
    if wrong:
        raise _read_differently(wrong[0])


def _compare(shelf: Shelf, descriptors: Sequence[int], weights: Weights) -> None:
    """The same samples of the files beside."""
    for path, part, descriptor in zip(shelf.files, shelf.division.parts, descriptors, strict=True):
        shift = len(part.header) - part.start
        if not all(_is_same(descriptor, at + shift, weights, at) for at in _samples(part.start, part.end)):
            raise _read_differently(path.name)


def _read_differently(what: str) -> BuilderFailure:
    return BuilderFailure(f"what was written was read back differently ({what}): check the disk and the memory")


def _samples(start: int, end: int) -> set[int]:
    last = max(0, end - start - SAMPLE_SIZE)
    return {start + last * i // (SAMPLES - 1) for i in range(SAMPLES)}


def _is_same(descriptor: int, offset: int, weights: Weights, at: int) -> bool:
    """Whether the file has from `offset` on, as far as it goes, what the model has from `at` on."""
    wanted = weights.read(at, min(SAMPLE_SIZE, weights.size - at))
    found = os.pread(descriptor, len(wanted), offset)
    return bool(found) and wanted.startswith(found)
