"""Where the engine can be placed on Windows, whose entry only unpacks Python."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

assert sys.platform == "win32"

from mkllm.runtime.errors import NoPlace
from mkllm.runtime.platform.windows import files

TEMPORARY = re.compile(r"mkllm-(\d+)-[0-9a-f]{12}")
LONGEST_HOME = 180  # what lies in it is loaded by functions that take paths of 259 letters


def native_home(kit: str) -> tuple[Path, bool] | None:
    """Where a frozen program places the engine, and whether that outlives it; None: the entry has said it.

    The first place that can be written. Raises NoPlace, naming all with their reasons.
    """
    if os.environ.get("MKLLM_HOME"):
        return None
    reasons = []
    for base, durable in _places():
        name = f"_MEI{kit[:14]}" if durable else f"mkllm-{os.getpid()}-{os.urandom(6).hex()}"
        path = base / name
        if why := _unusable(path):
            reasons.append(f"{str(base)!r}: {why}")
        else:
            _hold(path) if durable else _sweep(base)
            return path, durable
    tried = "; ".join(reasons) or "no variable names one"
    raise NoPlace(f"no folder can hold the engine ({tried}): set MKLLM_RUNTIME_DIR to one that can be written")


def _hold(path: Path) -> None:
    """As long as this process lives, no other launch removes the folder."""
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOINHERIT, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks
        files.lock_shared(descriptor)


def _sweep(base: Path) -> None:
    """Remove what launches left here that were killed, as far as it can be."""
    for path in base.glob("mkllm-*-*"):
        owner = TEMPORARY.fullmatch(path.name)
        if owner and not files.is_running(int(owner[1])):
            import shutil

            shutil.rmtree(path, ignore_errors=True)


def _places() -> Iterator[tuple[Path, bool]]:
    """Folders, and whether what is placed there is kept."""
    if chosen := os.environ.get("MKLLM_RUNTIME_DIR"):
        yield Path(chosen).absolute(), True
    if local := os.environ.get("LOCALAPPDATA"):
        yield Path(local) / "mkllm" / "runtime", True
    if temporary := os.environ.get("TEMP") or os.environ.get("TMP"):
        yield Path(temporary), False
    yield Path(sys.executable).parent, False


def _unusable(path: Path) -> str | None:
    """Make the folder; why not."""
    if not path.is_absolute():
        return "it is no whole path"
    if len(str(path)) > LONGEST_HOME:
        return f"its name is longer than {LONGEST_HOME} letters"
    trial = path / f".{os.getpid()}.trial"
    try:
        path.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        return (error.strerror or str(error)).rstrip(".").lower()
    return None
