"""Whether files are what the hub promised: their SHA-256, or git's SHA-1 of small ones; knows no hub."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from mkllm.builder.errors import UnusableModel, WrongHash
from mkllm.builder.progress import Output

DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
CHUNK = 1 << 20


def hasher(digest: str, size: int) -> "hashlib._Hash":
    """What a file of `size` bytes is to be hashed with, for comparing it with `digest`."""
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def check(promised: Mapping[Path, str], output: Output) -> None:
    """Read the files whole and compare their hashes. Raises WrongHash, naming the file."""
    for path, digest in promised.items():
        try:
            found = _digest(path, digest, output)
        except OSError as error:
            reason = (error.strerror or "?").lower()
            raise UnusableModel(f"{str(path)!r} cannot be read: {reason}; check its disk") from None
        if found != digest:
            raise wrong(path, found, digest)


def wrong(path: Path, found: str, digest: str) -> WrongHash:
    """The failure to raise for a file of the cache that has another hash."""
    return WrongHash(
        f"{str(path.resolve())!r} has the hash {found}, the hub promised {digest}: "
        "remove that file and run the command again"
    )


def _digest(path: Path, digest: str, output: Output) -> str:
    size = path.stat().st_size
    total = hasher(digest, size)
    with path.open("rb", buffering=0) as file, output.task(f"checking {path.name}", size) as advance:
        while block := file.read(CHUNK):
            total.update(block)
            advance(len(block))
    return total.hexdigest()
