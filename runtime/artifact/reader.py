"""Opens an artifact: end record, central directory and manifest, checked against each other; hashes no member.

Every launch goes through here, so it reads a few kilobytes and imports little.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from mkllm.runtime.artifact import layout, portable
from mkllm.runtime.artifact.layout import Comment, Entry
from mkllm.runtime.artifact.manifest import HEADER, MEMBER, PREPACKED, WEIGHTS, Beside, Manifest, Member
from mkllm.runtime.errors import Different, NoSuchMember, NotAnArtifact, PermissionFailure
from mkllm.runtime.platform.files import open_for_reading, read_into

MAX_MANIFEST = 16 << 20


@dataclass(frozen=True)
class Stretch:
    """`size` bytes from `offset` of the file `path`, which is open as `descriptor`."""

    path: str
    descriptor: int
    offset: int
    size: int


class Artifact:
    """An open artifact. It keeps reading the file that it opened, also when another takes its place on the disk."""

    def __init__(self, path: str, file: IO[bytes], manifest: Manifest, entries: Sequence[Entry], comment: Comment):
        self.path = path
        self.manifest = manifest
        self.entries = tuple(entries)
        self.comment = comment
        self._file = file
        self._beside: list[IO[bytes]] = []
        self._is_compared = False

    def fileno(self) -> int:
        """The open file descriptor; it stays the artifact's."""
        return self._file.fileno()

    @property
    def size(self) -> int:
        """Length of the whole file in bytes."""
        return os.fstat(self.fileno()).st_size

    def member(self, name: str) -> Member:
        """What the manifest says of a member. Raises NoSuchMember, naming those that look alike."""
        if name == MEMBER:
            last = self.entries[-1].place
            return Member(MEMBER, last.data, last.size, self.comment.manifest_sha256)
        if found := self.manifest.member(name):
            return found
        import difflib

        known = [*(member.name for member in self.manifest.members), MEMBER]
        near = difflib.get_close_matches(name, known, 3, 0.5) or known[:1]
        hint = " or ".join(repr(other) for other in near)
        raise NoSuchMember(f"{self.path!r} has no member {name!r}: did you mean {hint}?")

    @property
    def is_signed(self) -> bool:
        """Whether it is a Windows program with certificates; who signed it, and what, is not looked at."""
        return portable.table(read_at(self.fileno(), 0, min(portable.HEAD, self.size))) is not None

    @property
    def weights(self) -> Member:
        """The model's weights, wherever they lie: see `Manifest.weights`."""
        return self.manifest.weights

    def model(self, *, compared: bool = True) -> tuple[Stretch, ...]:
        """Where the model lies: in this file, or in those beside it, which are opened now if they are not yet.

        Of a model in several files, the header that they have in common is the member HEADER. Raises WeightsUnusable
        when they are missing or others, as can be seen at once; `compared`: also by the ends of what is in them.
        """
        if not self.manifest.beside:
            member = self.weights
            return (Stretch(self.path, self.fileno(), member.offset, member.size),)
        from mkllm.runtime.artifact.beside import expect_ends, open_beside

        self._beside = self._beside or open_beside(self.path, self.manifest)
        if compared and not self._is_compared:
            expect_ends(self.path, self.manifest, self._beside)
            self._is_compared = True
        return tuple(
            Stretch(file.name, file.fileno(), fact.data, fact.size - fact.data)
            for file, fact in zip(self._beside, self.manifest.beside, strict=True)
        )

    def is_own(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is this file, or one of those beside it, under that name."""
        files = [self._file, *self._beside]
        return os.path.exists(path) and any(os.path.samestat(os.fstat(f.fileno()), os.stat(path)) for f in files)

    def read(self, name: str) -> bytes:
        """All bytes of a member, checked by their SHA-256. Raises Different when they are not those that were built."""
        member = self.member(name)
        data = read_at(self.fileno(), member.offset, member.size)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise Different(f"{self.path!r} is damaged: its member {name!r} is not what was built; copy the file again")
        return data

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, *self._beside):
            file.close()

    def __enter__(self) -> "Artifact":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Open an artifact and check its structure. Raises NotAnArtifact with one sentence for any other file."""
    name = os.fspath(path)
    file = _open(name)
    try:
        return _read(name, file)
    except NotAnArtifact as error:
        file.close()
        raise NotAnArtifact(f"{name!r} cannot be used: {error}") from None
    except BaseException:
        file.close()
        raise


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Exactly `size` bytes from `offset`. Raises NotAnArtifact when the file is shorter."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        count = read_into(descriptor, view[done:], offset + done)
        if not count:
            raise NotAnArtifact("the file became shorter while it was read")
        done += count
    return bytes(buffer)


def _open(name: str) -> IO[bytes]:
    try:
        descriptor = open_for_reading(name)
    except PermissionError:
        raise PermissionFailure(f"{name!r} may not be read: check its permissions") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise NotAnArtifact(f"{name!r} cannot be opened: {reason}") from None
    return io.FileIO(descriptor, "r") if os.path.isfile(descriptor) else _not_a_file(name, descriptor)


def _not_a_file(name: str, descriptor: int) -> IO[bytes]:
    os.close(descriptor)
    raise NotAnArtifact(f"{name!r} is not a file: name an artifact that `mkllm build` wrote")


def _read(name: str, file: IO[bytes]) -> Artifact:
    descriptor = file.fileno()
    size = _unsigned_size(descriptor, os.fstat(descriptor).st_size)
    if size < layout.END_SIZE:
        raise NotAnArtifact("it is too short for an artifact: it is something else, or it is truncated")
    tail = read_at(descriptor, size - layout.END_SIZE, layout.END_SIZE)
    count, start, length, comment = layout.parse_end(tail, size)
    entries = layout.parse_directory(read_at(descriptor, start, length), count, comment.directory_crc)
    manifest = _manifest(descriptor, entries, start, comment)
    _check(manifest, entries, start, comment)
    return Artifact(name, file, manifest, entries, comment)


def _unsigned_size(descriptor: int, size: int) -> int:
    """Where the end record ends: at the end of the file, or before the certificates of a signed program."""
    certificates = portable.table(read_at(descriptor, 0, min(portable.HEAD, size)))
    if not certificates:
        return size
    start, length = certificates
    if start % portable.STEP or not 0 < start <= start + length == size:
        raise NotAnArtifact("its signature does not lie at its end: it is truncated, or bytes were added")
    before = read_at(descriptor, start - portable.STEP, portable.STEP)
    return start - (portable.STEP - len(before.rstrip(b"\0")))


def _manifest(descriptor: int, entries: Sequence[Entry], limit: int, comment: Comment) -> Manifest:
    if not entries or entries[-1].place.name != MEMBER:
        raise NotAnArtifact("its last member is not its manifest")
    place = entries[-1].place
    if place.size > MAX_MANIFEST or place.end > limit:
        raise NotAnArtifact("its manifest does not lie where it should")
    data = read_at(descriptor, place.data, place.size)
    if hashlib.sha256(data).hexdigest() != comment.manifest_sha256:
        raise NotAnArtifact(f"its manifest ({place.size} bytes from offset {place.data}) is damaged")
    return Manifest.from_bytes(data)


def _check(manifest: Manifest, entries: Sequence[Entry], directory: int, comment: Comment) -> None:
    """Manifest and central directory must say the same, and every part must lie where the format puts it."""
    places = [entry.place for entry in entries]
    told = [(member.name, member.offset, member.size) for member in manifest.members]
    names = [place.name for place in places]
    _expect(told == [(place.name, place.data, place.size) for place in places[:-1]], "members")
    _expect(manifest.model.member == (PREPACKED if manifest.prepacked else WEIGHTS), "members")
    _expect(_has_model(manifest, names) and len(set(names)) == len(names), "members")
    _expect(all(_is_plausible(file) for file in manifest.beside), "files of weights")
    _expect(all(is_safe(name) for name in names), "names of members")
    _expect(all(layout.is_hex(member.sha256, 64) for member in manifest.members), "hashes")
    _expect(manifest.bootloader.size > 0 and manifest.pkg.size > 0, "bootloader or PKG")
    sizes = [(place.name, place.size) for place in places]
    _expect(places == layout.place(manifest.bootloader.size, sizes), "places of members")
    pkg_end = layout.pkg_offset(places) + manifest.pkg.size
    signed = layout.signed_range(manifest.target, pkg_end, entries)
    _expect((signed[1] if signed else pkg_end) == directory, "place of the PKG")
    wanted = {manifest.engine.program, *manifest.engine.libraries, *(backend.member for backend in manifest.backends)}
    _expect(wanted <= set(names) and manifest.kit.id == comment.kit, "engine, backends or kit")


def _has_model(manifest: Manifest, names: Sequence[str]) -> bool:
    """Whether the model is where it should be: the first member, or beside; of one in several files the header is."""
    if not manifest.beside:
        return names[0] == manifest.model.member
    is_split = len(manifest.beside) > 1
    fits = (names[0] == HEADER) == is_split and not (is_split and manifest.prepacked)
    return fits and manifest.model.member not in names


def _is_plausible(file: Beside) -> bool:
    return (
        is_safe(file.file)
        and "/" not in file.file
        and 0 <= file.data < file.size
        and layout.is_hex(file.sha256, 64)
        and layout.is_hex(file.ends, 64)
    )


def is_safe(name: str) -> bool:
    """Whether a member's name is a plain relative path that can be extracted anywhere."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and "\\" not in name and name.isprintable()
    return plain and len(name.encode()) <= layout.MAX_NAME


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise NotAnArtifact(f"its manifest and its contents contradict each other ({what})")
