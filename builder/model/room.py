"""Whether a model of a given size runs in this machine's memory; only its size is known, the model is not here yet."""

from pathlib import Path

import psutil

# Beside the weights: caches for a short context, buffers, the program. What a build measures is exact, this is not.
SHARE, FIXED = 1.08, 300_000_000
LIMIT = Path("/sys/fs/cgroup/memory.max")
YES, TIGHT, NO = "yes", "tight", "no"


def needed(size: float) -> float:
    """About how many bytes a model takes to run whose file has `size` bytes."""
    return size * SHARE + FIXED


def runs(size: float, total: int, free: int) -> str:
    """`yes`; `tight`, when other programs have to make room; or `no`. All in bytes."""
    need = needed(size)
    return NO if need > total else TIGHT if need > free else YES


def memory() -> tuple[int, int]:
    """Bytes of memory that this machine has, or its container may have, and that are free."""
    found = psutil.virtual_memory()
    total, free = int(found.total), int(found.available)
    try:
        limit = int(LIMIT.read_text())
    except (OSError, ValueError):
        return total, free
    return min(total, limit), min(free, limit)
