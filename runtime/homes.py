"""Homes of programs whose entry has chosen none: the first place that will do; knows no system."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mkllm.runtime.errors import NoPlace
from mkllm.runtime.platform import files

TEMPORARY = re.compile(r"mkllm-(\d+)-[0-9a-f]{12}")


def first_home(
    kit: str, places: Iterable[tuple[Path, bool]], refusal: Callable[[Path], str | None]
) -> tuple[Path, bool]:
    """A folder in the first of the `places` that can be written, and whether it is kept, as the place says.

    `refusal` may have a reason why a folder would not do. Raises NoPlace, naming all places with their reasons.
    """
    reasons = []
    for base, durable in places:
        name = f"_MEI{kit[:14]}" if durable else f"mkllm-{os.getpid()}-{os.urandom(6).hex()}"
        path = base / name
        if why := _unusable(path, refusal):
            reasons.append(f"{str(base)!r}: {why}")
        else:
            _hold(path) if durable else _sweep(base)
            return path, durable
    tried = "; ".join(reasons) or "no variable names one"
    raise NoPlace(f"no folder can hold the engine ({tried}): set MKLLM_RUNTIME_DIR to one that can be written")


def _hold(path: Path) -> None:
    """As long as this process lives, no other launch removes the folder."""
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks
        files.lock_shared(descriptor)


def _sweep(base: Path) -> None:
    """Remove what launches left here that were killed, as far as it can be."""
    for path in base.glob("mkllm-*-*"):
        owner = TEMPORARY.fullmatch(path.name)
        if owner and not files.is_running(int(owner[1])):
            import shutil

            shutil.rmtree(path, ignore_errors=True)


def _unusable(path: Path, refusal: Callable[[Path], str | None]) -> str | None:
    """Make the folder; why not."""
    if not path.is_absolute():
        return "it is no whole path"
    trial = path / f".{os.getpid()}.trial"
    try:
        if why := refusal(path):
            return why
        path.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        return (error.strerror or str(error)).rstrip(".").lower()
    return None
