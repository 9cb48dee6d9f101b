"""Opens an artifact: end record, central directory and manifest, checked against each other; hashes no member.

Every launch goes through here, so it reads a few kilobytes and imports little.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from typing import IO

from mkllm.runtime.artifact import layout
from mkllm.runtime.artifact.layout import Comment, Entry
from mkllm.runtime.artifact.manifest import MEMBER, PREPACKED, WEIGHTS, Manifest, Member
from mkllm.runtime.errors import Different, NoSuchMember, NotAnArtifact, PermissionFailure
from mkllm.runtime.platform.files import open_for_reading, read_into

MAX_MANIFEST = 16 << 20


class Artifact:
    """An open artifact. It keeps reading the file that it opened, also when another takes its place on the disk."""

    def __init__(self, path: str, file: IO[bytes], manifest: Manifest, entries: Sequence[Entry], comment: Comment):
        self.path = path
        self.manifest = manifest
        self.entries = tuple(entries)
        self.comment = comment
        self._file = file

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
    def weights(self) -> Member:
        """The member that the model's weights lie in."""
        return self.manifest.weights

    def read(self, name: str) -> bytes:
        """All bytes of a member, checked by their SHA-256. Raises Different when they are not those that were built."""
        member = self.member(name)
        data = read_at(self.fileno(), member.offset, member.size)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise Different(f"{self.path!r} is damaged: its member {name!r} is not what was built; copy the file again")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
    size = os.fstat(descriptor).st_size
    if size < layout.END_SIZE:
        raise NotAnArtifact("it is too short for an artifact: it is something else, or it is truncated")
    tail = read_at(descriptor, size - layout.END_SIZE, layout.END_SIZE)
    count, start, length, comment = layout.parse_end(tail, size)
    entries = layout.parse_directory(read_at(descriptor, start, length), count, comment.directory_crc)
    manifest = _manifest(descriptor, entries, start, comment)
    _check(manifest, entries, start, comment)
    return Artifact(name, file, manifest, entries, comment)


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
    weights = PREPACKED if manifest.prepacked else WEIGHTS
    _expect(names[0] == manifest.model.member == weights and len(set(names)) == len(names), "members")
    _expect(all(is_safe(name) for name in names), "names of members")
    _expect(all(layout.is_hex(member.sha256, 64) for member in manifest.members), "hashes")
    _expect(manifest.bootloader.size > 0 and manifest.pkg.size > 0, "bootloader or PKG")
    sizes = [(place.name, place.size) for place in places]
    _expect(places == layout.place(manifest.bootloader.size, sizes), "places of members")
    _expect(layout.pkg_offset(places) + manifest.pkg.size == directory, "place of the PKG")
    wanted = {manifest.engine.program, *manifest.engine.libraries, *(backend.member for backend in manifest.backends)}
    _expect(wanted <= set(names) and manifest.kit.id == comment.kit, "engine, backends or kit")


def is_safe(name: str) -> bool:
    """Whether a member's name is a plain relative path that can be extracted anywhere."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and "\\" not in name and name.isprintable()
    return plain and len(name.encode()) <= layout.MAX_NAME


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise NotAnArtifact(f"its manifest and its contents contradict each other ({what})")
