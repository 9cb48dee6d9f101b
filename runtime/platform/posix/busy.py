"""How much of the processors other programs have used, on POSIX systems."""

import os
import sys
from pathlib import Path

assert sys.platform != "win32"

IDLE = slice(3, 5)  # of the first line of /proc/stat: idle and waiting for a disk (proc(5))


def used_by_others(stat: Path) -> float | None:
    """Seconds of all processors that went to others than this process and those children of it that have ended."""
    try:
        numbers = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    busy = sum(numbers) - sum(numbers[IDLE])
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return busy / os.sysconf("SC_CLK_TCK") - own
