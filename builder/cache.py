"""Where mkllm keeps what is slow to make: downloads, built parts, kits, artifacts of `mkllm run`."""

import os
from pathlib import Path


def root() -> Path:
    """`$MKLLM_CACHE`, else `$XDG_CACHE_HOME/mkllm`, else `~/.cache/mkllm`; not created here."""
    if chosen := os.environ.get("MKLLM_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mkllm"


def folder(name: str) -> Path:
    """A folder of the cache, created when it is missing."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
