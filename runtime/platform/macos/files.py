"""Files on macOS."""

import os
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32"

if TYPE_CHECKING:
    from pathlib import Path


def temporary(name: str, folder: "Path") -> int:
    """A file without a name, gone with the last who has it open; on the disk, as far as memory does not hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}.{os.urandom(8).hex()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path.unlink()
    return descriptor


def name_of_open(descriptor: int, path: str, link: "Path") -> str:
    """A name under which a child finds this file: its own; those of descriptors share one place to read at."""
    return path


def share(source: int, offset: int, size: int, target: int, at: int) -> int:
    """The number of bytes that now share their blocks with the source: none, APFS shares whole files only."""
    return 0


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
