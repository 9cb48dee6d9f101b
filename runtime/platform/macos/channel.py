"""The way to the engine on macOS: a Unix socket in the user's folder for temporary files, removed at the end."""

import atexit
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

assert sys.platform != "win32"

from mkllm.runtime.platform.macos import files

LONGEST = 103  # bytes of a socket's path (unix(4)), without the NUL behind it
SHORT_FOLDER = "/tmp"
NAME = re.compile(r"mkllm-(\d+)-[0-9a-f]{16}\.sock")


def new_address() -> str:
    """One that nobody has. Sockets of launches that were killed are removed."""
    name = f"mkllm-{os.getpid()}-{os.urandom(8).hex()}.sock"
    folder = os.environ.get("TMPDIR") or SHORT_FOLDER
    if not os.path.isabs(folder) or len(os.fsencode(os.path.join(folder, name))) > LONGEST:
        folder = SHORT_FOLDER
    _sweep(Path(folder))
    address = os.path.join(folder, name)
    atexit.register(_remove, address)
    return address


def _sweep(folder: Path) -> None:
    for path in folder.glob("mkllm-*.sock"):
        owner = NAME.fullmatch(path.name)
        if owner and not files.is_running(int(owner[1])):
            _remove(str(path))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def arguments(address: str) -> Sequence[str]:
    """The engine's words for it."""
    return ("--host", address)


def is_connected(address: str) -> bool:
    """True while this process, the only client, holds a connection to the address; True where that cannot be known."""
    import psutil

    try:
        return any(str(each.raddr) == address for each in psutil.Process().net_connections("unix"))
    except (psutil.Error, OSError):
        return True
