"""The event loop of the front: sockets, connections and their limits, and the end of it all."""

import asyncio
import gc
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.front import answers
from mkllm.runtime.front.app import HEADER_BYTES, App
from mkllm.runtime.front.console import Console
from mkllm.runtime.front.engine_state import EngineState
from mkllm.runtime.front.listen import BACKLOG, Listening
from mkllm.runtime.front.manager import Manager
from mkllm.runtime.front.stop import Stop, woken
from mkllm.runtime.launch import Launch

IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
CLOSING_SECONDS = 0.2


class Connection(RequestHandler):
    """One client's connection. What is no HTTP is refused in the shape of all other errors, and not logged."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: no other one can be given")
        reason = (message or str(exc)).strip().splitlines()[0][:200]
        return answers.closing(status, f"the request cannot be read ({reason}): send HTTP/1.1")


class Server(web.Server):
    """Makes connections with the front's limits. A client that goes away cancels what is done for it."""

    def __init__(self, app: App) -> None:
        super().__init__(app.handle, handler_cancellation=True)
        self._options: dict[str, Any] = {
            "keepalive_timeout": IDLE_SECONDS,
            "lingering_time": LINGER_SECONDS,
            "max_line_size": HEADER_BYTES,
            "max_field_size": HEADER_BYTES,
            "access_log": None,
            "auto_decompress": False,
        }

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


async def run(launch: Launch, listening: Listening, stop: Stop, console: Console) -> None:
    """Serve until `stop` is asked for. Raises the RuntimeFailure that the engine ended with for good."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    manager = Manager()

    def changed(snapshot: Snapshot) -> None:
        console.engine(snapshot)
        manager.engine(snapshot)
        if snapshot.phase == "failed":
            over.set()

    engine = EngineState(launch.engine, changed)
    app = App(launch, engine, console)
    server = Server(app)
    listeners = [await loop.create_server(server, sock=each, backlog=BACKLOG) for each in listening.sockets]
    with woken(loop):
        stop.when_asked(lambda: loop.call_soon_threadsafe(over.set))
        gc.freeze()
        await over.wait()
    manager.end()
    app.proxy.stop()
    for listener in listeners:
        listener.close()
    server.pre_shutdown()
    await server.shutdown(CLOSING_SECONDS)
    await app.proxy.close()
    engine.close()
    if engine.now.error and not stop.asked:
        raise engine.now.error
