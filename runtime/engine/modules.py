"""Places the engine, its libraries and the chosen backend where they can be executed; knows no process.

In a home of kind `memory` the files live in memfds, and the home holds symbolic links to them (spec/launch.md, 1.3).
"""

import contextlib
import errno
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.artifact.packed import SUFFIX, unpacked_size
from mkllm.runtime.artifact.reader import Artifact, read_at
from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.errors import NoSpace, NotAnArtifact, PermissionFailure, RuntimeFailure
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.home import Home
from mkllm.runtime.platform import files

CHUNK = 1 << 20
GZIP = 31  # zlib's word for that format
MFD_EXEC = 0x10


class Modules:
    """The native members of one artifact in one home. Only what is asked for is placed, so little space is needed."""

    def __init__(self, artifact: Artifact, home: Home) -> None:
        self._artifact = artifact
        self._memory = home.kind == "memory"
        self._durable = home.kind == "cache"
        self._folder = home.path / "native"
        self._descriptors: dict[str, int] = {}

    def place(self, choice: Choice) -> Placed:
        """Have the engine and the backends of this choice on disk. Raises as `place_backends` does."""
        return replace(self.place_backends(choice.backend, *choice.beside), environment=choice.environment)

    def place_backends(self, *backends: Backend) -> Placed:
        """Have the engine and these on disk. Raises NoSpace, PermissionFailure, or NotAnArtifact for damage."""
        engine = self._artifact.manifest.engine
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            program, *_ = [self._member(name) for name in (engine.program, *engine.libraries)]
            modules = tuple([self._member(backend.member) for backend in backends])
        except OSError as error:
            raise _translated(error, self._folder) from None
        libraries = self._folder if self._memory else None
        return Placed(program, modules, libraries, tuple(self._descriptors.values()))

    def _member(self, name: str) -> Path:
        """One member in the folder, written unless it is there with the right size."""
        path = self._folder / os.path.basename(name).removesuffix(SUFFIX)
        if self._memory:
            return self._in_memory(name, path)
        if not self._is_there(name, path):
            self._write(name, path)
        return path

    def _is_there(self, name: str, path: Path) -> bool:
        return path.is_file() and path.stat().st_size == self._size(name)

    def _size(self, name: str) -> int:
        """Of the file that the member becomes."""
        member = self._artifact.member(name)
        if not name.endswith(SUFFIX):
            return member.size
        return unpacked_size(read_at(self._artifact.fileno(), member.offset + member.size - 4, 4))

    def _write(self, name: str, path: Path) -> None:
        """Under a temporary name, then renamed: another launch may do the same at the same time."""
        with _writing(self._folder):
            temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")
            descriptor = files.create(temporary, 0o700)
            try:
                self._copy(name, descriptor)
                if self._durable:
                    files.sync(descriptor)
                self._publish(name, temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)

    def _publish(self, name: str, temporary: Path, path: Path) -> None:
        """Where a program that runs cannot be replaced, another launch may have been quicker."""
        try:
            os.replace(temporary, path)
        except PermissionError:
            if not self._is_there(name, path):
                raise
            temporary.unlink()

    def _in_memory(self, name: str, path: Path) -> Path:
        if name not in self._descriptors:
            descriptor = _memfd(path.name)
            self._copy(name, descriptor)
            self._descriptors[name] = descriptor
            path.unlink(missing_ok=True)
            path.symlink_to(f"/proc/self/fd/{descriptor}")
        return path

    def _copy(self, name: str, descriptor: int) -> None:
        """Write a member's bytes, unpacked, checking the member by its SHA-256 on the way."""
        member = self._artifact.member(name)
        total = hashlib.sha256()
        unpacker = zlib.decompressobj(wbits=GZIP) if name.endswith(SUFFIX) else None
        damaged = NotAnArtifact(f"{self._artifact.path!r} is damaged ({name!r} is not what was built): copy it again")
        for data in self._chunks(member.offset, member.size):
            total.update(data)
            try:
                _write_all(descriptor, unpacker.decompress(data) if unpacker else data)
            except zlib.error:
                raise damaged from None
        if total.hexdigest() != member.sha256:
            raise damaged

    def _chunks(self, offset: int, size: int) -> Iterator[bytearray]:
        end = offset + size
        while offset < end:
            buffer = bytearray(min(CHUNK, end - offset))
            count = files.read_into(self._artifact.fileno(), memoryview(buffer), offset)
            if not count:
                return
            offset += count
            yield buffer[:count]


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Within it this launch may write partial files: it holds a shared lock on the folder.

    Who gets the lock alone knows that nobody writes, and removes what killed launches have left.
    """
    with files.locked_folder(folder) as descriptor:
        with contextlib.suppress(OSError):  # others write now, or the file system has no locks
            files.lock(descriptor)
            for partial in folder.glob(".*.partial"):
                partial.unlink()
        with contextlib.suppress(OSError):
            files.lock_shared(descriptor)
        yield


def _memfd(name: str) -> int:
    """Executable explicitly, where the kernel is new enough to ask for that."""
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this Python was built without files in memory")
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


def _translated(error: OSError, folder: Path) -> RuntimeFailure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"no space left in {str(folder)!r} for the engine: free some, or set MKLLM_RUNTIME_DIR to another folder"
        )
    return PermissionFailure(
        f"the engine cannot be placed in {str(folder)!r} ({error.strerror}): set MKLLM_RUNTIME_DIR to another folder"
    )
