"""Files on POSIX systems."""

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

assert sys.platform != "win32"

import fcntl

if TYPE_CHECKING:
    from pathlib import Path

# The ioctl by which one file gets to share blocks of another: descriptor, offset, length, offset there (linux/fs.h).
FICLONERANGE = 0x4020940D
SHARING = struct.Struct("qQQQ")


def native(path: str | os.PathLike[str]) -> str:
    """The path as the system takes it, however long."""
    return os.fspath(path)


def open_for_reading(path: str) -> int:
    """A descriptor that no other program inherits; that of a pipe does not wait for a writer."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def create(path: "Path", mode: int = 0o600) -> int:
    """A new file, to be written and read, which can be renamed and removed while it is open."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def temporary(name: str, folder: "Path") -> int:
    """A file without a name, gone with the last who has it open; in memory. Raises OSError where there is none."""
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this system has no files in memory")
    return os.memfd_create(name)


def name_of_open(descriptor: int, path: str, link: "Path") -> str:
    """A name under which a child that inherits the descriptor finds this very file: that of a link, made if need be."""
    link.parent.mkdir(0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(f"/proc/self/fd/{descriptor}")
    return str(link)


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Read what fits into `view` from `offset`; the number of bytes, 0 at the end."""
    return os.preadv(descriptor, [view], offset)


def write_from(descriptor: int, view: memoryview, offset: int) -> int:
    """Write `view` at `offset`; the number of bytes that were."""
    return os.pwrite(descriptor, view, offset)


def share(source: int, offset: int, size: int, target: int, at: int) -> int:
    """The number of bytes that now share their blocks with the source: whole blocks from the start, or none."""
    block = os.fstat(target).st_blksize
    whole = size // block * block
    if not whole or offset % block or at % block:
        return 0
    try:
        fcntl.ioctl(target, FICLONERANGE, SHARING.pack(source, offset, whole, at))
    except OSError:
        return 0  # whatever speaks against it is said, in words, by the copy
    return whole


def finish(descriptor: int, mode: int) -> None:
    """Permissions, and all that was written on the disk."""
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)


def sync(descriptor: int) -> None:
    """All that was written is on the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: "Path") -> None:
    """Names that were given in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Have the file alone. Raises BlockingIOError when another has it, OSError where there are no locks."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_shared(descriptor: int) -> None:
    """Have it together with others that do, instead of alone."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def rename_new(path: "Path", new: "Path") -> None:
    """Rename a file, unless there is something of the new name. Raises FileExistsError, OSError."""
    try:
        os.link(path, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(new)) from None
        os.rename(path, new)
    else:
        os.unlink(path)


def rename_unused(folder: "Path", held: "Path", new: "Path") -> None:
    """Rename a folder, unless somebody has locked the file `held` in it. Raises OSError."""
    descriptor = os.open(held, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        lock(descriptor)
        folder.rename(new)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: "Path") -> Iterator[int]:
    """A descriptor to lock that stands for the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    return os.path.exists(f"/proc/{pid}")
