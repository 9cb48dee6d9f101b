"""One HTTP/1.1 request to the engine and its answer, as far as the engine's server needs it.

The standard library's client takes 20 ms to import, as long as the engine takes to load a small model.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from mkllm.runtime.platform import channel

CONNECT_SECONDS = 10.0
LONGEST_LINE = 1 << 16


class Cut(Exception):
    """The answer ended before it was whole, or is no HTTP."""


class Exchange:
    """Sends on creation; `status` is known then, the body comes with `lines` or `read`. Raises Cut and OSError."""

    def __init__(self, address: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self._socket = channel.connect(address, CONNECT_SECONDS)
        try:
            self._socket.sendall(_head(method, path, headers, len(body)) + body)
            self._file: BinaryIO = channel.reader(self._socket)
            self.status, self._headers = _answer(self._file)
        except BaseException:
            self._socket.close()
            raise

    def lines(self) -> Iterator[bytes]:
        """The body's lines as they come, without their ends."""
        rest = b""
        for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self._pieces())

    def close(self) -> None:
        """End the connection, also in the middle of a body."""
        self._file.close()
        self._socket.close()

    def _pieces(self) -> Iterator[bytes]:
        if "chunked" in self._headers.get("transfer-encoding", ""):
            yield from _chunks(self._file)
        elif "content-length" in self._headers:
            yield _exactly(self._file, int(self._headers["content-length"]))
        else:
            while piece := self._file.read1(65536):  # type: ignore[attr-defined]
                yield piece


def _head(method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def _answer(file: BinaryIO) -> tuple[int, dict[str, str]]:
    version, _, rest = _line(file).partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Cut("its first line is not HTTP's")
    headers = {}
    while line := _line(file):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip().lower()
    return int(rest[:3]), headers


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            size = int(_line(file).partition(";")[0], 16)
        except ValueError:
            raise Cut("a chunk has no size") from None
        if size == 0:
            return
        yield _exactly(file, size)
        _line(file)


def _line(file: BinaryIO) -> str:
    line = file.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise Cut("a line is not whole")
    return line.decode("latin-1").rstrip("\r\n")


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise Cut("the body is not whole")
    return data
