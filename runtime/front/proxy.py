"""Passes requests on to the engine and its answers back, piece by piece; decides nothing about who may ask."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from mkllm.runtime.artifact.manifest import Defaults
from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.front import answers, opening
from mkllm.runtime.front.engine_state import EngineState
from mkllm.runtime.front.guard import same_origin
from mkllm.runtime.front.upload import TooLarge, Upload
from mkllm.runtime.platform import channel

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade".split()
)
# The engine is asked under another name and with another key, its connection has a length of its own, and it has no say
# about origins: neither in requests nor, as Access-Control-Allow-Origin, in answers.
NOT_PASSED_ON = HOP_BY_HOP | frozenset("host authorization x-api-key origin cookie expect content-length".split())
NOT_PASSED_BACK = HOP_BY_HOP | frozenset({"server"})
CORS = "access-control-"
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
STREAM = "text/event-stream"
CONNECT_SECONDS = 10.0
CONNECT_TRIES = 5
NEWS_SECONDS = 2.0
# llama.cpp calls a body that is no JSON a defect of its own, and clients ask again after a 500.
UNREADABLE = b'"message":"[json.exception.parse_error'
LONGEST_ERROR = 65536


class BrokenOff(Exception):
    """The engine's answer is not whole."""


class Proxy:
    """The way to the engine. `defaults` are the maker's; `max_body` is in bytes.

    Every request has a connection of its own. That costs a tenth of a millisecond; no request is lost to a connection
    that was kept and that the engine closes just then, and closing it ends the generation.
    """

    def __init__(self, engine: EngineState, defaults: Defaults, max_body: int) -> None:
        self._engine = engine
        self._prompt = defaults.system_prompt
        self._messages = defaults.messages
        self._max_body = max_body
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._users: Counter[str] = Counter()
        self._answering: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def stop(self) -> None:
        """End the answers under way; streams end with the sentence that the program was stopped."""
        self._stopping = True
        for task in self._answering:
            task.cancel()

    async def close(self) -> None:
        """Close what is open to the engine."""
        for session in self._sessions.values():
            await session.close()

    async def answer(self, request: web.BaseRequest, extra: Mapping[str, str]) -> web.StreamResponse:
        """The engine's answer to `request`, with `extra` headers; waits while the model loads."""
        upload = Upload(request, self._max_body)
        try:
            if (request.content_length or 0) > self._max_body:
                raise TooLarge
            snapshot = await self._engine.ready()
            await _say_continue(request)
            return await self._pass_on(request, upload, snapshot, extra)
        except RuntimeFailure as failure:
            return answers.closing(503, str(failure))
        except TooLarge:
            return answers.closing(413, f"the body is larger than {self._max_body} bytes: --max-body allows for more")

    async def _pass_on(
        self, request: web.BaseRequest, upload: Upload, snapshot: Snapshot, extra: Mapping[str, str]
    ) -> web.StreamResponse:
        whole = await self._opened(request, upload)
        for _ in range(CONNECT_TRIES):
            try:
                with self._using(snapshot.address):
                    return await self._answered(request, upload, whole, snapshot, extra)
            except aiohttp.ClientConnectorError:
                # Nothing has been sent yet: that engine is gone, and the next one can be asked.
                await self._engine.other_than(snapshot, NEWS_SECONDS)
                snapshot = await self._engine.ready()
        return answers.closing(503, "the engine does not answer: try again")

    async def _answered(
        self,
        request: web.BaseRequest,
        upload: Upload,
        whole: bytes | None,
        snapshot: Snapshot,
        extra: Mapping[str, str],
    ) -> web.StreamResponse:
        try:
            answered = await self._ask(request, upload, whole, snapshot)
            error = await answered.read() if _may_be_unreadable(answered) else b""
        except aiohttp.ClientConnectorError:
            raise
        except aiohttp.ClientError:
            if upload.exceeded:
                raise TooLarge from None
            return answers.closing(503, await self._what_happened(snapshot))
        if UNREADABLE in error:
            return answers.error(400, "the body is no JSON: send one JSON object")
        try:
            return await self._pass_back(request, answered, error, snapshot, extra)
        finally:
            answered.close()

    @contextlib.contextmanager
    def _using(self, address: str) -> Iterator[None]:
        """An answer of this engine's is under way: its session stays, whichever engine is asked meanwhile."""
        self._users[address] += 1
        try:
            yield
        finally:
            self._users[address] -= 1

    async def _opened(self, request: web.BaseRequest, upload: Upload) -> bytes | None:
        """The whole body with what the maker put first, where that is to be added; None: the body is passed on unread.

        The chat page shows its system prompt, and when it sends none, its user has deleted it.
        """
        path, headers = opening.endpoint(request.raw_path), request.headers
        of_page = same_origin(headers.get("Origin", ""), headers.get("Host", ""))
        prompt = None if of_page else self._prompt
        if not (prompt or self._messages) or not opening.applies(request.method, path):
            return None
        return opening.with_opening(path, await upload.whole(), prompt, self._messages)

    async def _ask(
        self, request: web.BaseRequest, upload: Upload, whole: bytes | None, snapshot: Snapshot
    ) -> aiohttp.ClientResponse:
        session = await self._connected(snapshot.address)
        headers = _passed(request.headers, NOT_PASSED_ON)
        headers["Authorization"] = f"Bearer {snapshot.key}"
        if whole is None and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        body = whole if whole is not None else upload.pieces() if request.body_exists else None
        url = URL(channel.url(snapshot.address) + request.raw_path, encoded=True)
        return await session.request(request.method, url, headers=headers, data=body, allow_redirects=False)

    async def _connected(self, address: str) -> aiohttp.ClientSession:
        if address not in self._sessions:
            for unused in [other for other in self._sessions if not self._users[other]]:
                await self._sessions.pop(unused).close()
            self._sessions[address] = aiohttp.ClientSession(
                connector=channel.connector(address),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                skip_auto_headers=AUTOMATIC,
                auto_decompress=False,
            )
        return self._sessions[address]

    async def _pass_back(
        self,
        request: web.BaseRequest,
        answered: aiohttp.ClientResponse,
        begun: bytes,
        snapshot: Snapshot,
        extra: Mapping[str, str],
    ) -> web.StreamResponse:
        headers = _passed(answered.headers, NOT_PASSED_BACK)
        headers.update({**answers.COMMON, **extra})
        response = web.StreamResponse(status=answered.status, reason=answered.reason, headers=headers)
        await response.prepare(request)
        task = asyncio.current_task()
        assert task
        self._answering.add(task)
        try:
            async for piece in _pieces(answered, begun):
                await response.write(piece)
        except BrokenOff:
            await self._cut(request, response, await self._what_happened(snapshot))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            task.uncancel()
            await self._cut(request, response, "the program was stopped")
        finally:
            self._answering.discard(task)
        return response

    async def _cut(self, request: web.BaseRequest, response: web.StreamResponse, message: str) -> None:
        """End an answer that is not whole: a stream of events says so, anything else breaks off."""
        if response.content_type == STREAM:
            await response.write(answers.event(opening.endpoint(request.raw_path), message))
        elif request.transport:
            request.transport.abort()

    async def _what_happened(self, snapshot: Snapshot) -> str:
        """Why the engine broke off, once that is known."""
        news = await self._engine.other_than(snapshot, NEWS_SECONDS)
        if news.phase == "failed":
            return str(news.error)
        if news.restarts == snapshot.restarts:
            return "the engine broke off the connection: try again"
        return f"{news.last_failure}; it has been started again, so try again"


async def _say_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits before it sends its body (curl, for a large one) to go on."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _may_be_unreadable(answered: aiohttp.ClientResponse) -> bool:
    return answered.status == 500 and (answered.content_length or LONGEST_ERROR) < LONGEST_ERROR


async def _pieces(answered: aiohttp.ClientResponse, begun: bytes) -> AsyncIterator[bytes]:
    """What the engine answers, as it comes, after what was read already. Raises BrokenOff when the engine ends before
    its answer does."""
    if begun:
        yield begun
    try:
        while piece := await answered.content.readany():
            yield piece
    except aiohttp.ClientError:
        raise BrokenOff from None


def _passed(headers: Mapping[str, str], without: frozenset[str]) -> CIMultiDict[str]:
    """Headers to pass on: without those, and without the ones that the Connection header names."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    kept = CIMultiDict[str]()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in without and lower not in named and not lower.startswith(CORS):
            kept.add(name, value)
    return kept
