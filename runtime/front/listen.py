"""The sockets of the public port: opened before anything slow is imported, so that clients can connect at once."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from mkllm.runtime.errors import CannotListen
from mkllm.runtime.platform.ports import EXCLUSIVE, TAKEN

TRIES = 20
BACKLOG = 1024
LAST_PORT = 65535
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


@dataclass(frozen=True)
class Listening:
    """Open sockets, all on `port`. `wanted` is the port that was asked for, 0 for any."""

    sockets: tuple[socket.socket, ...]
    host: str
    port: int
    wanted: int

    @property
    def moved(self) -> bool:
        """Another port than the one that was asked for."""
        return self.wanted not in (0, self.port)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{ANYWHERE.get(self.host, _in_url(self.host))}:{self.port}"

    @property
    def public(self) -> bool:
        """Whether other machines can reach it."""
        return not all(_is_loopback(each.getsockname()[0]) for each in self.sockets)

    def close(self) -> None:
        """Stop listening."""
        for each in self.sockets:
            each.close()


def listen(host: str, port: int, only: bool = False) -> Listening:
    """Listen on every address of `host`, on `port` or, if it is taken and not the `only` one, on the next that is free
    (0: on any).

    Raises CannotListen when there is none, or when the host is not this machine's.
    """
    name = host.strip().removeprefix("[").removesuffix("]")
    addresses = _resolve(name, port)
    last = port if port == 0 or only else min(port + TRIES, LAST_PORT)
    for candidate in range(port, last + 1):
        if sockets := _open_all(addresses, candidate, name):
            return Listening(sockets, name, sockets[0].getsockname()[1], port)
    if only:
        raise CannotListen(f"port {port} of {name!r} is taken: end what uses it, or choose another with --port")
    raise CannotListen(f"no port from {port} to {last} is free on {name!r}: choose another with --port, 0 for any")


def _resolve(name: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise CannotListen(f"the host {name!r} is not known: give --host an address of this machine") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _open_all(addresses: Sequence[tuple[socket.AddressFamily, str]], port: int, name: str) -> tuple[socket.socket, ...]:
    """A socket for each address that this machine has, all on the same port; none when the port is taken on any."""
    opened: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in addresses:
        try:
            opened.append(_open(family, address, opened[0].getsockname()[1] if opened else port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close(opened)
                if error.errno in TAKEN:
                    return ()
                raise _refused(error, name, port) from None
            absent = error
    if not opened and absent:
        raise _refused(absent, name, port)
    return tuple(opened)


def _open(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, EXCLUSIVE, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        opened.bind((address, port))
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _refused(error: OSError, name: str, port: int) -> CannotListen:
    if error.errno == errno.EACCES:
        return CannotListen(f"port {port} may not be opened without privileges: choose --port 1024 or above")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return CannotListen(f"{name!r} is no address of this machine: give --host one of its own, or 0.0.0.0 for all")
    reason = os.strerror(error.errno or 0).lower()
    return CannotListen(f"port {port} of {name!r} cannot be opened ({reason}): choose others with --host and --port")


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
