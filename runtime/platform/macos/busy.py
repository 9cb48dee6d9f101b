"""How much of the processors other programs have used, on macOS."""

import os
import sys
from pathlib import Path

assert sys.platform != "win32"


def used_by_others(stat: Path) -> float | None:
    """Seconds of all processors that went to others than this process and those children of it that have ended."""
    import psutil

    found = psutil.cpu_times()
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return float(found.user + found.nice + found.system) - own
