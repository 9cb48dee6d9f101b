"""Files that a command writes beside what it prints: looked at before hours of work, written after it."""

import errno
import os
from pathlib import Path

from mkllm.runtime.artifact.draft import failure


def expect_writable(path: Path | None) -> None:
    """Raise PermissionFailure if no file can be written there, as far as can be seen; writes nothing."""
    if path is None:
        return
    number = None
    if not path.parent.is_dir():
        number = errno.ENOENT
    elif path.is_dir():
        number = errno.EISDIR
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        number = errno.EACCES
    if number is not None:
        raise failure(OSError(number, os.strerror(number)), path)


def write(path: Path | None, text: str) -> None:
    """Write a file, if one is wanted. Raises PermissionFailure or NoSpace."""
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise failure(error, path) from None
