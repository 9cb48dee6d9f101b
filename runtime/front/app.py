"""What the front does with a request: check who asks, then the page, /health, or the engine."""

import time
from collections.abc import Mapping

from aiohttp import web

from mkllm.runtime.artifact.purpose import GENERATING, purpose
from mkllm.runtime.front import answers
from mkllm.runtime.front.console import Console
from mkllm.runtime.front.engine_state import EngineState
from mkllm.runtime.front.guard import Refusal, guard
from mkllm.runtime.front.health import health
from mkllm.runtime.front.notice import notice
from mkllm.runtime.front.opening import endpoint
from mkllm.runtime.front.page import Page
from mkllm.runtime.front.proxy import Proxy
from mkllm.runtime.launch import Launch

HEADER_BYTES = 16 << 10
HEALTH = ("/health", "/v1/health")
PAGE = ("/", "/index.html")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class App:
    """The handler of all requests of one launch."""

    def __init__(self, launch: Launch, engine: EngineState, console: Console) -> None:
        front = launch.front
        self._launch = launch
        self._engine = engine
        self._console = console
        self._guard = guard(front.host, front.api_keys, front.allow_hosts, front.allow_origins)
        self._page = Page(launch.artifact)
        self._purpose = purpose(launch.manifest.model)
        self.proxy = Proxy(engine, launch.manifest.defaults, front.max_body)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; failures that have no sentence of their own become 500."""
        begun = time.monotonic()
        try:
            response = await self._answer(request)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as failure:
            self._console.defect(failure)
            response = answers.closing(500, f"a defect of this program: {type(failure).__name__}: {failure}")
        self._console.request(request.method, request.raw_path, response.status, time.monotonic() - begun)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        refusal = _malformed(request) or self._guard.refusal(request.method, path in PAGE, request.headers)
        if refusal:
            return answers.closing(refusal.status, refusal.message)
        origin = self._guard.foreign_origin(request.headers)
        allowed = cors(origin) if origin else {}
        response = await self._served(request, path, allowed)
        if not response.prepared:
            response.headers.update(allowed)
        return response

    async def _served(self, request: web.BaseRequest, path: str, allowed: Mapping[str, str]) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return _options(request)
        if request.method in ("GET", "HEAD"):
            if path in HEALTH:
                launch = self._launch
                notes = () if self._guard.wrong_key(request.headers) else launch.front.notes
                return answers.answer(*health(launch.model_id, launch.context, notes, self._engine.now))
            if self._purpose and path in PAGE:
                scheme = "https" if request.headers.get("X-Forwarded-Proto", "").lower() == "https" else "http"
                url = f"{scheme}://{request.headers.get('Host', '')}"
                return notice(self._launch.model_id, self._purpose, url, bool(self._launch.front.api_keys))
            if self._page.has(path):
                return self._page.answer(path, request.headers)
        refusal = self._guard.wrong_key(request.headers)
        if refusal:
            return answers.closing(refusal.status, refusal.message)
        if self._purpose and endpoint(request.raw_path) in GENERATING:
            return answers.closing(400, self._purpose.sentence)
        return await self.proxy.answer(request, allowed)


def cors(origin: str) -> dict[str, str]:
    """What tells a browser that a page of `origin` may read the answer."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "*", "Vary": "Origin"}


def _options(request: web.BaseRequest) -> web.Response:
    """The answer to a preflight; the guard has let its origin pass."""
    headers = {"Allow": METHODS, "Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": "600"}
    wanted = request.headers.get("Access-Control-Request-Headers")
    if wanted:
        headers["Access-Control-Allow-Headers"] = wanted
    if request.headers.get("Access-Control-Request-Private-Network"):
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers={**headers, **answers.COMMON})


def _malformed(request: web.BaseRequest) -> Refusal | None:
    """What aiohttp's parser lets pass and nobody sends in good faith."""
    size = sum(len(name) + len(value) + 4 for name, value in request.raw_headers) + len(request.raw_path)
    if size > HEADER_BYTES:
        return Refusal(400, f"the headers are larger than {HEADER_BYTES} bytes: send fewer or shorter ones")
    if request.version >= (1, 1) and len(request.headers.getall("Host", ())) != 1:
        return Refusal(400, "a request has one Host header: send one")
    if not request.raw_path.startswith("/"):
        return Refusal(400, f"{request.raw_path!r:.80} is no path: send requests to this server, not through it")
    if request.method in ("CONNECT", "TRACE"):
        return Refusal(405, f"{request.method} is not served here: use {METHODS}")
    return None
