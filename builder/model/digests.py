"""Hashes of weights that were read before, so that building from the same files again only copies; knows no artifact.

They are kept by what the files' stat says: device, inode, size, and the times of the last write and the last change. A
file that was written to shortly before it was hashed is not remembered: a later write could leave the same times.
"""

import hashlib
import json
import os
import time
from dataclasses import astuple
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import PermissionFailure
from mkllm.builder.model.weights import Span, Weights

SETTLED_SECONDS = 2.0


def known(weights: Weights) -> tuple[str, int] | None:
    """SHA-256 (hex) and CRC-32 of weights that were hashed before and have not changed since; else None."""
    if not weights.files:
        return None
    try:
        found = json.loads(_file(weights).read_bytes())
        sha256, crc = found["sha256"], found["crc32"]
    except (OSError, ValueError, LookupError, TypeError, PermissionFailure):
        return None
    if not isinstance(sha256, str) or len(sha256) != 64 or not isinstance(crc, int):
        return None
    return sha256, crc


def remember(weights: Weights, sha256: str, crc: int) -> None:
    """Keep the hashes for the next time; where the cache cannot be written, nothing is kept."""
    try:
        newest = max((_newest(path) for path in weights.files), default=float("inf"))
        if time.time() - newest < SETTLED_SECONDS:
            return
        file = _file(weights)
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(json.dumps({"sha256": sha256, "crc32": crc}))
        os.replace(new, file)
    except (OSError, PermissionFailure):
        return


def _newest(path: Path) -> float:
    status = path.stat()
    return max(status.st_mtime, status.st_ctime)


def _file(weights: Weights) -> Path:
    """Named by all that decides the bytes. Raises OSError for a file that is gone, PermissionFailure for no cache."""
    parts = hashlib.sha256()
    for segment in weights.segments:
        parts.update(
            _identity(segment).encode() if isinstance(segment, Span) else b"bytes:%d:" % len(segment) + segment
        )
    return cache.folder("digests") / f"{parts.hexdigest()[:32]}.json"


def _identity(span: Span) -> str:
    """The span's stamp, against which the file is compared while it is read, and when anything of it last changed."""
    return f"file:{astuple(span.stamp)}:{os.stat(span.path).st_ctime_ns}:{span.offset}:{span.size};"
