"""Where the engine can be placed on macOS, whose entry only unpacks Python."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

assert sys.platform != "win32"

from mkllm.runtime.homes import first_home
from mkllm.runtime.platform.posix.children import SEPARATOR

CACHES = "Library/Caches"
OTHERS_MAY_WRITE = 0o022


def native_home(kit: str) -> tuple[Path, bool] | None:
    """Where a frozen program places the engine, and whether that outlives it; None: the entry has said it.

    The first place that can be written. Raises NoPlace, naming all with their reasons.
    """
    return None if os.environ.get("MKLLM_HOME") else first_home(kit, _places(), _refusal)


def _places() -> Iterator[tuple[Path, bool]]:
    """Folders, and whether what is placed there is kept."""
    if chosen := os.environ.get("MKLLM_RUNTIME_DIR"):
        yield Path(chosen).absolute(), True
    if (home := os.environ.get("HOME")) and _is_own(home):
        yield Path(home) / CACHES / "mkllm" / "runtime", True
    if temporary := os.environ.get("TMPDIR"):
        yield Path(temporary), False
    yield Path("/tmp"), False
    yield Path(sys.executable).parent, False


def _is_own(folder: str) -> bool:
    """`sudo` may keep another user's."""
    try:
        return os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def _refusal(path: Path) -> str | None:
    """Why that folder, which is made if need be, would not do."""
    if SEPARATOR in str(path):
        return f"its name has a {SEPARATOR!r}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & OTHERS_MAY_WRITE:
        return "others could change what lies there"
    return None
