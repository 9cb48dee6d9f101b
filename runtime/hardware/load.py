"""How busy the rest of the machine is, between two looks."""

import os
import time
from pathlib import Path

from mkllm.runtime.platform.busy import used_by_others

BUSY = 0.3  # processors; less is what every machine does beside
BUSY_SHARE = 0.1  # of a large machine's processors


class Load:
    """From its making on: processors that others used. What cannot be read counts as quiet."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._begun = time.monotonic()
        self._before = used_by_others(stat)

    def others(self) -> float:
        """On average, without this process and those children of it that have ended."""
        seconds = time.monotonic() - self._begun
        used = used_by_others(self._stat)
        if seconds <= 0 or self._before is None or used is None:
            return 0.0
        return max(0.0, (used - self._before) / seconds)

    def is_busy(self) -> bool:
        """So much that what is measured meanwhile says little of a quiet machine."""
        return self.others() > max(BUSY, BUSY_SHARE * (os.cpu_count() or 1))
