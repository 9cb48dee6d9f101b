"""A file that appears under its name only when it is whole: written beside it, then renamed; knows no format."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mkllm.runtime.errors import NoSpace, PermissionFailure, RuntimeFailure, TargetExists
from mkllm.runtime.platform import files
from mkllm.runtime.signals import undisturbed

MAX_NAME = 255
PARTIAL, REPLACED = ".partial", ".replaced"


class Draft:
    """An open temporary file beside `target`; `commit` makes it the target."""

    def __init__(self, target: Path, path: Path, descriptor: int) -> None:
        self.target = target
        self.path = path
        self.descriptor = descriptor
        self._replaces = False

    def commit(self, mode: int, force: bool) -> None:
        """Flush to the disk and rename; replaces an existing target if `force`, else raises TargetExists."""
        self.settle(mode, force)
        self.appear()

    def settle(self, mode: int, force: bool) -> None:
        """All of `commit` that takes time or may be refused; `appear` is the rest."""
        self._replaces = force
        files.finish(self.descriptor, mode)
        if not force and os.path.lexists(self.target):
            raise self._made_meanwhile()

    def appear(self) -> None:
        """Rename. Raises TargetExists for what was made since it was settled, unless it replaces that."""
        if self._replaces:
            os.replace(self.path, self.target)
        else:
            try:
                files.rename_new(self.path, self.target)
            except FileExistsError:
                raise self._made_meanwhile() from None
        files.sync_folder(self.target.parent)

    def take_back(self) -> None:
        """Undo `appear`: the target is removed if it is this draft, and no other file."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self.descriptor), os.lstat(self.target)):
                self.target.unlink()

    def set_aside(self) -> None:
        """Give what has the target's name another one, known to `bring_back`. Raises TargetExists like `appear`."""
        if not os.path.lexists(self.target):
            return
        if not self._replaces or not (self.target.is_file() or self.target.is_symlink()):
            raise self._made_meanwhile()
        os.replace(self.target, self.path.with_suffix(REPLACED))

    def _made_meanwhile(self) -> TargetExists:
        return TargetExists(f"{str(self.target)!r} was made by somebody else meanwhile: choose another name")

    def reopen(self) -> None:
        """What lies at `path` now is the draft: another program may have put a new file there."""
        os.close(self.descriptor)
        self.descriptor = -1
        self.descriptor = os.open(self.path, os.O_RDWR)
        _lock(self.descriptor)


@contextlib.contextmanager
def draft(target: Path) -> Iterator[Draft]:
    """A temporary file beside `target`, which is gone afterwards unless it was committed.

    Files that builds killed earlier left behind are removed first. Failures to write come out as one sentence.
    """
    target = Path(files.native(target))
    new = Draft(target, Path(files.native(target.with_name(_draft_name(target.name, str(os.getpid()))))), -1)
    is_ours = False
    try:
        remove_stale(target)
        with undisturbed():  # a file that is there is one that is removed
            new.descriptor = files.create(new.path)
            is_ours = True
        _lock(new.descriptor)
        yield new
    except OSError as error:
        raise failure(error, target) from error
    finally:
        _discard(new, is_ours)


def failure(error: OSError, target: Path) -> RuntimeFailure:
    """The sentence for an error met while writing `target`."""
    name, folder, reason = str(target), str(target.parent), os.strerror(error.errno or errno.EIO).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left in {folder!r} for {target.name!r}: free some, or choose another disk")
    if error.errno == errno.EFBIG:
        return NoSpace(f"{name!r} grew larger than its file system, or `ulimit -f`, allows: choose another disk")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PermissionFailure(f"{name!r} cannot be written: there is no folder {folder!r}; create it first")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionFailure(f"{name!r} cannot be written ({reason}): choose a folder that you may write to")
    return PermissionFailure(f"{name!r} cannot be written ({reason}): choose another place")


def remove_stale(target: Path) -> None:
    """Remove temporary files of this target whose writers are gone."""
    for path, pid in _beside(target, PARTIAL):
        if not _is_in_use(path, pid):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def bring_back(target: Path) -> None:
    """Give what this process, or one that is gone, has set aside its name again, unless another file has it."""
    for path in _set_aside(target):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            files.rename_new(path, target)


def remove_replaced(target: Path) -> None:
    """Remove what this process, or one that is gone, has set aside. One that still runs, on Windows, stays."""
    for path in _set_aside(target):
        with contextlib.suppress(OSError):
            path.unlink()


def _set_aside(target: Path) -> list[Path]:
    own = os.getpid()
    return [path for path, pid in _beside(target, REPLACED) if pid == own or not files.is_running(pid)]


def _beside(target: Path, suffix: str) -> list[tuple[Path, int]]:
    """Files of this target with that suffix, each with the process that has named it."""
    start, end = _draft_name(target.name, "#", suffix).rsplit("#", 1)
    found = [(path, path.name[len(start) : -len(end)]) for path in target.parent.iterdir()]
    return [
        (path, int(pid))
        for path, pid in found
        if path.name.startswith(start) and path.name.endswith(end) and pid.isdecimal()
    ]


def _draft_name(name: str, pid: str, suffix: str = PARTIAL) -> str:
    """`.<name>.<pid>.partial`, its name cut where the whole would be too long for a file system."""
    room = MAX_NAME - len(".." + PARTIAL) - 10
    return f".{os.fsdecode(os.fsencode(name)[:room])}.{pid}{suffix}"


def _is_in_use(path: Path, pid: int) -> bool:
    """A writer holds a lock on its draft; where locks do not work, its process is asked for."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True  # of another user, or gone already
    try:
        files.lock(descriptor)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return files.is_running(pid)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: see _is_in_use
        files.lock(descriptor)


def _discard(new: Draft, is_ours: bool) -> None:
    """Remove the draft, undisturbed by a second Ctrl-C."""
    with undisturbed():
        if is_ours:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new.path)
        if new.descriptor >= 0:
            os.close(new.descriptor)
