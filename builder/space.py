"""Whether a disk has room for what is to be written; writes nothing."""

import os
from pathlib import Path

from mkllm.builder.errors import NoSpace
from mkllm.builder.progress import size


def check_free(folder: Path, needed: int, what: str, hint: str) -> None:
    """Raise NoSpace when `folder`, which may not exist yet, has less than `needed` bytes free.

    `what` is to be written there, and `hint` says what else helps than to free some.
    """
    status = os.statvfs(next(path for path in (folder, *folder.absolute().parents) if path.exists()))
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise NoSpace(f"no space for {what}: {size(needed)} needed, {size(free)} free; free some, or {hint}")
