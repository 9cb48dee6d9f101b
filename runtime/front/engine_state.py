"""The engine's state inside the event loop: what it is now, and waiting for what it becomes."""

import asyncio
from collections.abc import Callable

from mkllm.runtime.engine.supervisor import Snapshot, Supervisor
from mkllm.runtime.errors import EngineUnusable


class EngineState:
    """Follows a supervisor; `changed` is called in the loop with every new snapshot."""

    def __init__(self, supervisor: Supervisor, changed: Callable[[Snapshot], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._waiters: set[asyncio.Future[None]] = set()
        self.now = supervisor.snapshot()
        self._unsubscribe = supervisor.subscribe(self._from_thread)

    def close(self) -> None:
        """Follow no longer."""
        self._unsubscribe()

    async def ready(self) -> Snapshot:
        """Wait until requests are served. Raises the RuntimeFailure that the engine ended with."""
        while self.now.phase == "loading":
            await self._next()
        if self.now.phase != "ready":
            raise self.now.error or EngineUnusable("the program is being stopped: start it again")
        return self.now

    async def other_than(self, old: Snapshot, seconds: float) -> Snapshot:
        """The first snapshot of another engine than `old`'s or with another phase; after `seconds` whatever is."""
        try:
            async with asyncio.timeout(seconds):
                while (self.now.pid, self.now.phase) == (old.pid, old.phase):
                    await self._next()
        except TimeoutError:
            pass
        return self.now

    async def _next(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _from_thread(self, snapshot: Snapshot) -> None:
        self._loop.call_soon_threadsafe(self._take, snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        self.now = snapshot
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._changed(snapshot)
