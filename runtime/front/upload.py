"""The body of a request on its way to the engine, and its limit."""

from collections.abc import AsyncIterator

from aiohttp import web


class TooLarge(Exception):
    """The body is longer than --max-body."""


class Upload:
    """The body of a request, at most `limit` bytes of it. `exceeded` says that there was more."""

    def __init__(self, request: web.BaseRequest, limit: int) -> None:
        self._request = request
        self._limit = limit
        self.exceeded = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises TooLarge when the limit is passed."""
        total = 0
        async for piece in self._request.content.iter_any():
            total += len(piece)
            if total > self._limit:
                self.exceeded = True
                raise TooLarge
            yield piece

    async def whole(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])
