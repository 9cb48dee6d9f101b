"""Where mkllm keeps what is slow to make: downloads, built parts, kits, artifacts of `mkllm run`."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mkllm.builder.errors import PermissionFailure

ELSEWHERE = "set MKLLM_CACHE to a folder on another disk"
CHOOSE = "set MKLLM_CACHE to a folder that can be written"


def root() -> Path:
    """`$MKLLM_CACHE`, else `$XDG_CACHE_HOME/mkllm`, else `~/.cache/mkllm`; not created here.

    Raises PermissionFailure when that depends on a home folder and there is none.
    """
    try:
        if chosen := os.environ.get("MKLLM_CACHE"):
            return Path(chosen).expanduser().absolute()
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "mkllm"
    except RuntimeError:
        raise PermissionFailure(f"this user has no home folder for mkllm's cache: {CHOOSE}") from None


def folder(name: str) -> Path:
    """A folder of the cache, created when it is missing. Raises PermissionFailure when it cannot be."""
    path = root() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionFailure(f"{str(path)!r} cannot be created ({error.strerror}): {CHOOSE}") from None
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits while another process holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def draft(place: Path, name: str) -> Iterator[Path]:
    """An empty folder in `place` to make `name` in, removed afterwards.

    The caller holds the lock of `name`: such a folder that is there already is of a process that was killed, and goes.
    """
    prefix = f".new-{name}-"
    for stale in place.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=prefix) as made:
        yield Path(made)
