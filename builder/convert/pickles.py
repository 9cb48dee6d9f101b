"""What a file of PyTorch's would call while it is loaded; loads nothing.

PyTorch itself refuses more than this (`weights_only`) when the converter loads it. What is seen here is refused before
anything is downloaded or started.
"""

import lzma
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.convert.safetensors import damaged, forbidden
from mkllm.builder.errors import UnsafePickle, UnsupportedArchitecture

HARMLESS = frozenset({"torch", "collections", "numpy", "_codecs"})
LARGEST_PROGRAM = 1 << 28  # bytes; that of a model with 10000 tensors has 2 MB
ENCRYPTED = 1  # among the flags of an archive's file
# What zipfile raises: unknown compression (RuntimeError), and each kind of compression for itself.
UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error, lzma.LZMAError, struct.error)
STORAGE = "Storage"
FLOAT = "FloatStorage"
HALVES = frozenset({"HalfStorage", "BFloat16Storage"})


@dataclass(frozen=True)
class Pickled:
    """A file's weights: `size` in bytes, and the names of the kinds of numbers that they are kept in."""

    size: int
    storages: frozenset[str]


def look(path: Path) -> Pickled:
    """The weights in a file.

    Raises UnsafePickle, DamagedCheckpoint, PermissionFailure or UnsupportedArchitecture (PyTorch before 1.6).
    """
    try:
        if not zipfile.is_zipfile(path):
            raise _no_archive(path)
        with zipfile.ZipFile(path) as archive:
            programs = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            called = {name for entry in programs for name in _called(_read(archive, entry))}
            size = sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)
    except PermissionError:
        raise forbidden(path) from None
    except UNREADABLE as error:
        raise damaged(path, f"it cannot be read ({str(error) or type(error).__name__})") from None
    for name in sorted(called):
        if name.partition(".")[0] not in HARMLESS:
            raise UnsafePickle(
                f"{str(path)!r} would call {name!r} when it is loaded, which weights never do: take the model from "
                "somebody you trust, or its version in safetensors"
            )
    return Pickled(size, frozenset(name.rpartition(".")[2] for name in called if name.endswith(STORAGE)))


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > LARGEST_PROGRAM:
        raise ValueError(f"{entry.filename!r:.80} is too large for what lists weights")
    if entry.flag_bits & ENCRYPTED:
        raise ValueError(f"{entry.filename!r:.80} is encrypted")
    return archive.read(entry)


def _called(program: bytes) -> Iterator[str]:
    """Names that a pickle looks up, as `module.name`."""
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(program):
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)


def _no_archive(path: Path) -> Exception:
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if is_pickle:
        return UnsupportedArchitecture(
            f"{str(path)!r} is in the form of PyTorch before 1.6, which is not converted: load it with PyTorch, save "
            "it again, or take its version in safetensors"
        )
    return damaged(path, "it is no archive of PyTorch's")
