"""Which file is the artifact: the running one, or in development the one that MKLLM_ARTIFACT names."""

import os
import sys

from mkllm.runtime.errors import NotAnArtifact

RUNNING = "/proc/self/exe"


def own_file() -> str:
    """The path to open. A running file that was replaced meanwhile is still reached, through /proc."""
    if getattr(sys, "frozen", False):
        return sys.executable if _same(sys.executable, RUNNING) else RUNNING
    if path := os.environ.get("MKLLM_ARTIFACT"):
        return path
    raise NotAnArtifact("this runtime is not part of an artifact: set MKLLM_ARTIFACT to one that 'mkllm build' wrote")


def own_name() -> str:
    """What to call this program in messages."""
    frozen = getattr(sys, "frozen", False)
    return os.path.basename(sys.executable if frozen else os.environ.get("MKLLM_ARTIFACT", "artifact"))


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
