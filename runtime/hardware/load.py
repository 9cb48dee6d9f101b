"""How busy the rest of the machine is, between two looks."""

import os
import time
from pathlib import Path

BUSY = 0.3  # processors; less is what every machine does beside
BUSY_SHARE = 0.1  # of a large machine's processors
IDLE = slice(3, 5)  # of the first line of /proc/stat: idle and waiting for a disk (proc(5))


class Load:
    """From its making on: processors that others used. What cannot be read counts as quiet."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._begun = time.monotonic()
        self._before = self._used()

    def others(self) -> float:
        """On average, without this process and those children of it that have ended."""
        seconds = time.monotonic() - self._begun
        used = self._used()
        if seconds <= 0 or self._before is None or used is None:
            return 0.0
        return max(0.0, (used - self._before) / seconds)

    def is_busy(self) -> bool:
        """So much that what is measured meanwhile says little of a quiet machine."""
        return self.others() > max(BUSY, BUSY_SHARE * (os.cpu_count() or 1))

    def _used(self) -> float | None:
        """Seconds of all processors that went to others."""
        try:
            numbers = [int(word) for word in self._stat.read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        busy = sum(numbers) - sum(numbers[IDLE])
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return busy / os.sysconf("SC_CLK_TCK") - own
