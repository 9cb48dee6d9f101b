"""How much of the processors other programs have used, on Windows."""

import ctypes
import os
import sys
from pathlib import Path

assert sys.platform == "win32"

from mkllm.runtime.platform.windows import calls, job


def used_by_others(stat: Path) -> float | None:
    """Seconds of all processors that went to others than this process and what it started."""
    idle, kernel, user = ctypes.c_ulonglong(), ctypes.c_ulonglong(), ctypes.c_ulonglong()
    if not calls.GetSystemTimes(ctypes.byref(idle), ctypes.byref(kernel), ctypes.byref(user)):
        return None
    busy = (kernel.value + user.value - idle.value) / job.UNITS  # the kernel's time includes that of doing nothing
    times = os.times()
    return float(busy) - times.user - times.system - job.seconds_used()
