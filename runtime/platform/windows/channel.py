"""The way to the engine on Windows: a port of the loopback interface, which only those with its key can use."""

import io
import select
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

assert sys.platform == "win32"

from mkllm.runtime.platform.windows.children import LONGEST_WAIT

if TYPE_CHECKING:
    from aiohttp import BaseConnector

HOST = "127.0.0.1"
TAKEN = "couldn't bind"  # as the engine says that another program has its address


def new_address() -> str:
    """One that nobody has; somebody may take it before the engine does, which then ends and is started again."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind((HOST, 0))
        return f"{HOST}:{free.getsockname()[1]}"


def arguments(address: str) -> Sequence[str]:
    """The engine's words for it."""
    return ("--host", HOST, "--port", str(_port(address)))


def connect(address: str, timeout: float) -> socket.socket:
    """A connection, made within `timeout` seconds; then without a limit. Raises OSError."""
    connection = socket.create_connection((HOST, _port(address)), timeout)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def reader(connection: socket.socket) -> BinaryIO:
    """What comes over a connection, as a file."""
    return io.BufferedReader(_Incoming(connection))


class _Incoming(io.RawIOBase):
    """Waits a short time only, again and again: Ctrl-C does not come through a wait for a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not select.select([self._connection], [], [], LONGEST_WAIT)[0]:
            pass
        return self._connection.recv_into(buffer)


def connector(address: str) -> "BaseConnector":
    """aiohttp's way to connect, anew for every request."""
    import aiohttp

    return aiohttp.TCPConnector(force_close=True, limit=0)


def url(address: str) -> str:
    """What comes before a path."""
    return f"http://{address}"


def is_connected(address: str) -> bool:
    """True while a client holds a connection to the address; True where that cannot be known."""
    import psutil

    port = _port(address)
    try:
        found = psutil.net_connections("tcp4")
    except (psutil.Error, OSError):
        return True
    return any(each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in found)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
