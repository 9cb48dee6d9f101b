"""Where the engine can be placed on Windows, whose entry only unpacks Python."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

assert sys.platform == "win32"

from mkllm.runtime.homes import first_home

LONGEST_HOME = 180  # what lies in it is loaded by functions that take paths of 259 letters


def native_home(kit: str) -> tuple[Path, bool] | None:
    """Where a frozen program places the engine, and whether that outlives it; None: the entry has said it.

    The first place that can be written. Raises NoPlace, naming all with their reasons.
    """
    return None if os.environ.get("MKLLM_HOME") else first_home(kit, _places(), _refusal)


def _places() -> Iterator[tuple[Path, bool]]:
    """Folders, and whether what is placed there is kept."""
    if chosen := os.environ.get("MKLLM_RUNTIME_DIR"):
        yield Path(chosen).absolute(), True
    if local := os.environ.get("LOCALAPPDATA"):
        yield Path(local) / "mkllm" / "runtime", True
    if temporary := os.environ.get("TEMP") or os.environ.get("TMP"):
        yield Path(temporary), False
    yield Path(sys.executable).parent, False


def _refusal(path: Path) -> str | None:
    if len(str(path)) > LONGEST_HOME:
        return f"its name is longer than {LONGEST_HOME} letters"
    return None
