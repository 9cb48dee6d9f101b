"""Which file is the artifact: the running one, or in development the one that MKLLM_ARTIFACT names."""

import os
import sys

from mkllm.runtime.errors import NotAnArtifact
from mkllm.runtime.platform.own import own_program


def own_file() -> str:
    """The path to open."""
    if getattr(sys, "frozen", False):
        return own_program()
    if path := os.environ.get("MKLLM_ARTIFACT"):
        return path
    raise NotAnArtifact("this runtime is not part of an artifact: set MKLLM_ARTIFACT to one that 'mkllm build' wrote")


def own_name() -> str:
    """What to call this program in messages."""
    frozen = getattr(sys, "frozen", False)
    return os.path.basename(sys.executable if frozen else os.environ.get("MKLLM_ARTIFACT", "artifact"))
