"""The way to the engine on POSIX systems: an abstract Unix socket, of which nothing is left in the file system."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

assert sys.platform != "win32"

if TYPE_CHECKING:
    from aiohttp import BaseConnector

CONNECTED = "03"  # proc(5), /proc/net/unix: the state of a socket with somebody at its other end
TAKEN = ""  # nobody else can have such an address


def new_address() -> str:
    """One that nobody has, as `connect` takes it."""
    return f"\0mkllm-{os.getpid()}-{os.urandom(8).hex()}.sock"


def arguments(address: str) -> Sequence[str]:
    """The engine's words for it."""
    return ("--host", "@" + address[1:])


def connect(address: str, timeout: float) -> socket.socket:
    """A connection, made within `timeout` seconds; then without a limit. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(address)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def reader(connection: socket.socket) -> BinaryIO:
    """What comes over a connection, as a file."""
    return connection.makefile("rb")


def connector(address: str) -> "BaseConnector":
    """aiohttp's way to connect, anew for every request."""
    import aiohttp

    return aiohttp.UnixConnector(address, force_close=True, limit=0)


def url(address: str) -> str:
    """What comes before a path."""
    return "http://engine"


def is_connected(address: str, table: Path = Path("/proc/net/unix")) -> bool:
    """True while a client holds a connection to the address; True where that cannot be known."""
    name = "@" + address.removeprefix("\0")
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return True
    return any(words[7:] == [name] and words[5] == CONNECTED for words in map(str.split, lines))
