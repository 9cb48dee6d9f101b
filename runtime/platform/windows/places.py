"""Where the engine can be placed on Windows: the entry has chosen a home."""

import sys
from pathlib import Path

assert sys.platform == "win32"


def native_home(kit: str) -> tuple[Path, bool] | None:
    """None: there is nothing to choose."""
    return None
