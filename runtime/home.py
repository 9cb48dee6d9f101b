"""The home: the folder that holds the runtime's files for this launch, chosen by the entry (spec/launch.md, 1).

Knows what to remove when the launch is over, and what the guardian's death means; knows no file of the engine.
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mkllm.runtime.platform import files, own

Kind = Literal["cache", "temporary", "memory", "development"]
OLD_SECONDS = 30 * 86400.0
LAST_SECONDS = 5.0
TERMINATED = 128 + 15

_guardian_gone = threading.Event()


@dataclass(frozen=True)
class Home:
    """`path` exists. Only a home of kind `cache` outlives the launch; of kind `memory` means links to memfds only.

    `guarded`: another process, the guardian, removes the home when this one ends.
    """

    path: Path
    kind: Kind
    guarded: bool = False

    @property
    def frozen(self) -> str | None:
        """The folder of the frozen runtime's libraries, None when the runtime is not frozen."""
        return None if self.kind == "development" else str(self.path)

    def remove(self) -> None:
        """Remove what must not outlive the launch, and the folder made for it; a guardian does it for its own child."""
        if self.kind == "development":
            _remove(self.path)
        elif self.kind != "cache" and (not self.guarded or _guardian_gone.is_set()):
            _remove(_launch_folder(self.path))


def open_home(kit: str = "") -> Home:
    """The home that the entry chose, one for files of this kit, or a folder for this launch when nothing is frozen.

    Raises NoPlace where there is none.
    """
    path = os.environ.get("MKLLM_HOME")
    if not path and getattr(sys, "frozen", False):
        from mkllm.runtime.platform.places import native_home

        if place := native_home(kit):
            return Home(place[0], "cache" if place[1] else "temporary")
    if not path:
        import tempfile

        return Home(Path(tempfile.mkdtemp(prefix="mkllm-")), "development")
    kind = os.environ.get("MKLLM_HOME_KIND", "cache")
    guardian = os.environ.get("MKLLM_GUARDIAN_FD", "")
    known: Kind = "temporary" if kind == "temporary" else "memory" if kind == "memory" else "cache"
    return Home(Path(path), known, guarded=guardian.isdigit() and known != "cache")


def watch_guardian(home: Home) -> None:
    """End this process, and remove its home, when the guardian is gone."""
    if home.kind != "development" and (gone := own.guardian()):
        threading.Thread(target=_outlive, args=(gone, home), name="guardian", daemon=True).start()


def _outlive(gone: Callable[[], None], home: Home) -> None:
    gone()
    _guardian_gone.set()
    own.end_self()
    time.sleep(LAST_SECONDS)
    home.remove()
    os._exit(TERMINATED)


def _launch_folder(path: Path) -> Path:
    """`mkllm-<pid>-<random>` around the home, where it is there; never anything else."""
    return path.parent if re.fullmatch(r"mkllm-\d+-\w+", path.parent.name) else path


def prune(home: Home, now: float | None = None) -> list[Path]:
    """Mark this home as used, and remove other kits' homes beside it that nobody has used for 30 days, or uses now.

    As far as that can be done: where it cannot, in a cache that is read-only or shared with other users, all is left.
    """
    if home.kind != "cache":
        return []
    now = time.time() if now is None else now
    _mark(home.path, now)
    return [path for path in _siblings(home.path) if _is_old(path, now) and _remove_unused(path)]


def _mark(path: Path, now: float) -> None:
    with contextlib.suppress(OSError):
        os.utime(path / ".lock", (now, now))


def _siblings(path: Path) -> list[Path]:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return []
    return [path.with_name(name) for name in names if name.startswith("_MEI") and name != path.name]


def _is_old(path: Path, now: float) -> bool:
    """False where it cannot be known: for one of another user's, or one that has just gone."""
    lock = path / ".lock"
    try:
        return path.is_dir() and now - (lock if lock.exists() else path).stat().st_mtime > OLD_SECONDS
    except OSError:
        return False


def _remove_unused(path: Path) -> bool:
    """Renamed first, so that a launch that comes between finds either all of it or nothing."""
    doomed = path.with_name(f"{path.name}.{os.getpid()}.old")
    try:
        files.rename_unused(path, path / ".lock", doomed)
    except OSError:
        return False
    _remove(doomed)
    return True


def _remove(path: Path) -> None:
    """A tree, as far as it can be; imported late, since a launch from the cache removes nothing."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
