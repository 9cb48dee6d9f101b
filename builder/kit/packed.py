"""CPU variants as they lie in a kit and in artifacts: compressed, since a machine runs one of them all; knows no kit.

Whoever runs one from a kit has it unpacked into the cache first; a launch of an artifact does so into its home.
"""

import contextlib
import errno
import gzip
import os
import re
import tempfile
import zlib
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.kit.sdist import sha256
from mkllm.runtime.artifact.packed import SUFFIX, unpacked_size

PACKED = re.compile(r"native/(lib)?ggml-cpu-.+\.(so|dll)")


def packed_name(member: str) -> str:
    """The name in a kit of what a part gives by this one."""
    return member + SUFFIX if PACKED.fullmatch(member) else member


def pack(data: bytes) -> bytes:
    """The same input gives the same bytes."""
    return gzip.compress(data, 9, mtime=0)


def loadable(path: Path) -> Path:
    """A module of a kit as a file that can be loaded: itself, or unpacked into the cache when its name says that it is
    compressed. Raises OSError, or PermissionFailure when there is no cache."""
    if path.suffix != SUFFIX:
        return path
    folder = cache.folder("modules") / sha256(path)[:16]
    target = folder / path.stem
    if not (target.exists() and target.stat().st_size == _size(path)):
        folder.mkdir(exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=folder)
        try:
            with open(handle, "wb") as file:
                file.write(_unpacked(path))
                os.fsync(handle)
            os.chmod(draft, 0o755)
            os.replace(draft, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    return target


def _size(path: Path) -> int:
    """Of what is in it; -1 for a file that is too short."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        return unpacked_size(file.read())


def _unpacked(path: Path) -> bytes:
    """Raises OSError for damage too."""
    with contextlib.suppress(EOFError, zlib.error):
        data = gzip.decompress(path.read_bytes())
        if len(data) == _size(path):
            return data
    raise OSError(errno.EIO, "it is damaged", str(path))
