"""Files on Windows: they are shared with whoever renames or removes them, and their paths may be long."""

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

assert sys.platform == "win32"

import msvcrt

from mkllm.runtime.platform.windows import calls

if TYPE_CHECKING:
    from pathlib import Path

LONG = 240  # from about here on the old functions of Windows refuse a path that has no prefix
PREFIX, SHARE_PREFIX = "\\\\?\\", "\\\\?\\UNC\\"
READ, WRITE = 0x80000000, 0x40000000
SHARED = 1 | 2 | 4  # FILE_SHARE_READ, _WRITE, _DELETE
NEW, EXISTING = 1, 3
NORMAL = 0x80
ALONE, AT_ONCE = 2, 1  # LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY
# What is locked is a byte behind the end of every file, since a locked one cannot be read by others.
LOCKED_BYTE = 1 << 62
ACCESS_DENIED, LOCK_VIOLATION, END_OF_FILE = 5, 33, 38


def native(path: str | os.PathLike[str]) -> str:
    """The path as the system takes it, however long."""
    text = os.fspath(path)
    whole = text if text.startswith(PREFIX) else os.path.abspath(text)
    if len(whole) < LONG or whole.startswith(PREFIX):
        return text
    return SHARE_PREFIX + whole[2:] if whole.startswith("\\\\") else PREFIX + whole


def open_for_reading(path: str) -> int:
    """A descriptor that no other program inherits; the file can be renamed and removed while it is open."""
    if os.path.isdir(native(path)):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return _opened(path, READ, EXISTING, os.O_RDONLY)


def create(path: "Path", mode: int = 0o600) -> int:
    """A new file, to be written and read, which can be renamed and removed while it is open."""
    return _opened(os.fspath(path), READ | WRITE, NEW, os.O_RDWR)


def temporary(name: str, folder: "Path") -> int:
    """A file in `folder`, gone with the last who has it open."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}.{os.urandom(8).hex()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_BINARY | os.O_NOINHERIT | os.O_TEMPORARY | os.O_SHORT_LIVED
    return os.open(native(path), flags, 0o600)


def _opened(path: str, access: int, how: int, flags: int) -> int:
    handle = calls.CreateFile(native(path), access, SHARED, None, how, NORMAL, None)
    if handle in (None, calls.NO_HANDLE):
        error = calls.failure()
        raise OSError(error.errno, error.strerror, path, error.winerror)
    return msvcrt.open_osfhandle(handle, flags | os.O_BINARY | os.O_NOINHERIT)


def name_of_open(descriptor: int, path: str, link: "Path") -> str:
    """A name under which a child finds this very file: its own, since nothing takes that of a file that is open."""
    return native(path)


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Read what fits into `view` from `offset`; the number of bytes, 0 at the end."""
    return _moved(calls.ReadFile, descriptor, view, offset)


def write_from(descriptor: int, view: memoryview, offset: int) -> int:
    """Write `view` at `offset`; the number of bytes that were."""
    return _moved(calls.WriteFile, descriptor, view, offset)


def _moved(call: "ctypes._NamedFuncPointer", descriptor: int, view: memoryview, offset: int) -> int:
    buffer = (ctypes.c_char * len(view)).from_buffer(view) if not view.readonly else bytes(view)
    count = ctypes.c_ulong()
    where = calls.at(offset)
    if not call(msvcrt.get_osfhandle(descriptor), buffer, len(view), ctypes.byref(count), ctypes.byref(where)):
        if ctypes.get_last_error() != END_OF_FILE:
            raise calls.failure()
    return count.value


def share(source: int, offset: int, size: int, target: int, at: int) -> int:
    """The number of bytes that now share their blocks with the source: none, NTFS cannot."""
    return 0


def finish(descriptor: int, mode: int) -> None:
    """All that was written on the disk; permissions are those of the folder."""
    os.fsync(descriptor)


def sync(descriptor: int) -> None:
    """All that was written is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: "Path") -> None:
    """Names that were given in it are on the disk: the file system keeps a journal of them."""


def lock(descriptor: int) -> None:
    """Have the file alone. Raises BlockingIOError when another has it, OSError where there are no locks."""
    where = calls.at(LOCKED_BYTE)
    if not calls.LockFileEx(msvcrt.get_osfhandle(descriptor), ALONE | AT_ONCE, 0, 1, 0, ctypes.byref(where)):
        if ctypes.get_last_error() == LOCK_VIOLATION:
            raise BlockingIOError(errno.EAGAIN, "another program has it")
        raise calls.failure()


def lock_shared(descriptor: int) -> None:
    """Have it together with others that do, instead of alone."""
    handle, where = msvcrt.get_osfhandle(descriptor), calls.at(LOCKED_BYTE)
    calls.UnlockFileEx(handle, 0, 1, 0, ctypes.byref(where))
    calls.expect(calls.LockFileEx(handle, 0, 0, 1, 0, ctypes.byref(where)))


def rename_new(path: "Path", new: "Path") -> None:
    """Rename a file, unless there is something of the new name. Raises FileExistsError, OSError."""
    os.rename(path, new)


def open_lock(path: "Path") -> int:
    """A descriptor of a file that is there to be locked, made if need be."""
    return os.open(native(path), os.O_RDWR | os.O_CREAT | os.O_NOINHERIT, 0o600)


def rename_unused(folder: "Path", held: "Path", new: "Path") -> None:
    """Rename a folder, unless somebody has locked the file `held` in it. Raises OSError."""
    descriptor = open_lock(held)
    try:
        lock(descriptor)
    finally:
        os.close(descriptor)
    folder.rename(new)  # which fails for one with open files


@contextlib.contextmanager
def locked_folder(folder: "Path") -> Iterator[int]:
    """A descriptor to lock that stands for the folder."""
    descriptor = open_lock(folder / ".lock")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    handle = calls.OpenProcess(calls.SYNCHRONIZE, False, pid)
    if handle:
        calls.CloseHandle(handle)
    return bool(handle) or ctypes.get_last_error() == ACCESS_DENIED  # of somebody else's
