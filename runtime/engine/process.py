"""One run of the engine: spawned, watched by one thread, stopped; decides nothing about what follows its end.

The protocol (lifeline, status lines, embedded weights) is that of spec/launch.md, 3.
"""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.engine.environment import for_placed
from mkllm.runtime.engine.log import Log
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.verdict import Ending
from mkllm.runtime.hardware.variants import GPUS
from mkllm.runtime.platform import channel, children

IDLE_SECONDS = 0.2
ASKING_SECONDS = 0.005
HEALTH_SECONDS = 2.0
HANG_SECONDS = 120.0


@dataclass(frozen=True)
class Status:
    """How far a run has come. `progress` (0 to 1) of reading weights; `ended` is set once it is over.

    `restored`: the weights are prepacked, but not used so, and the plain ones were made of them in memory.
    """

    progress: float = 0.0
    restored: bool = False
    kernel_refused: bool = False
    loaded: bool = False
    ready: bool = False
    ended: Ending | None = None


class Engine:
    """One engine process. `changed` is called in the watching thread after every change of `status`."""

    def __init__(
        self, kernel: str, placed: Placed, weights: Weights, log: Log, changed: Callable[["Engine"], None]
    ) -> None:
        self.kernel = kernel
        self.key = os.urandom(24).hex()
        self.address = channel.new_address()
        self.status = Status()
        self._placed = placed
        self._weights = weights
        self._log = log
        self._changed = changed
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._status_rest = b""
        self._ready_at: float | None = None
        self._pulse = Pulse()
        self._hung = False
        self._defect: Exception | None = None
        self._lifeline: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, once started."""
        return self._process.pid if self._process else None

    def start(self, arguments: Sequence[str], frozen_home: str | None) -> None:
        """Spawn the process and the thread that watches it. Raises OSError when it cannot be executed."""
        status_end, status_far = os.pipe()
        lifeline_far, lifeline_end = os.pipe()
        words = [str(self._placed.program), *arguments, *channel.arguments(self.address)]
        environment = {
            **for_placed(os.environ, self._placed, frozen_home),
            "LLAMA_API_KEY": self.key,
            **self._weights.variables(WEIGHTS),
            "MKLLM_STATUS_FD": str(children.number(status_far)),
            "MKLLM_LIFELINE_FD": str(children.number(lifeline_far)),
        }
        self._log.begin(" ".join(words))
        try:
            self._process = children.start(
                words,
                (status_far, lifeline_far, *self._weights.descriptors, *self._placed.descriptors),
                environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
            )
        except OSError:
            os.close(status_end)
            os.close(lifeline_end)
            raise
        finally:
            os.close(status_far)
            os.close(lifeline_far)
        children.dump_no_memory(self._process.pid)
        self._lifeline = os.fdopen(lifeline_end, "wb", 0)
        status = os.fdopen(status_end, "rb", 0)
        self._thread = threading.Thread(target=self._watch, args=(status,), name="engine", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """End the process: asked to, after `grace` seconds forced. Returns when it is gone. Idempotent.

        Waiting for the thread is quicker than for the process, which can only be polled.
        """
        self._stopping = True
        if self._process is None or self._thread is None or self._lifeline is None:
            return
        children.ask_to_end(self._process, self._lifeline)
        if threading.current_thread() is not self._thread:
            self._thread.join(grace)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def serves(self) -> bool:
        """It has been ready, and has not ended by now, noticed or not."""
        return self.status.ready and self._process is not None and self._process.poll() is None

    @property
    def stopping(self) -> bool:
        """Its end, when it comes, is wanted."""
        return self._stopping

    def _watch(self, status: IO[bytes]) -> None:
        """Whatever happens here, the end of the process is noticed and told."""
        assert self._process is not None and self._process.stdout is not None and self._lifeline is not None
        with contextlib.closing(children.Hearing()) as hearing:
            try:
                hearing.add(status, self._take_status)
                hearing.add(self._process.stdout, self._log.feed)
                self._follow(hearing)
            except Exception as defect:
                self._defect = defect
                self._process.kill()
            returncode = self._process.wait()
        self._lifeline.close()
        self._now(replace(self.status, ready=False, ended=self._ending(returncode)))

    def _follow(self, hearing: children.Hearing) -> None:
        assert self._process is not None
        while hearing.open and self._process.poll() is None:
            asking = self.status.loaded and not self.status.ready
            heard = hearing.hear(ASKING_SECONDS if asking else IDLE_SECONDS)
            if self.status.loaded and not self.status.ready and self._answers():
                self._ready_at = time.monotonic()
                self._now(replace(self.status, ready=True))
            if not self.status.ready and self._pulse.gone(self._process.pid, heard):
                self._hung = True
                self._process.kill()
        self._process.wait()
        hearing.drain()

    def _take_status(self, data: bytes) -> None:
        *lines, self._status_rest = (self._status_rest + data).split(b"\n")
        for line in lines:
            self._take_event(json.loads(line))

    def _take_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self._now(replace(self.status, progress=float(event["value"])))
        elif event["event"] == "weights":
            self._now(replace(self.status, restored=event["how"] == "restored"))
        elif event["event"] == "loaded":
            self._now(replace(self.status, loaded=True, progress=1.0))
        elif event["event"] == "backend" and not event["loaded"]:
            self._now(replace(self.status, kernel_refused=True))

    def _now(self, status: Status) -> None:
        self.status = status
        self._changed(self)

    def _answers(self) -> bool:
        """Whether the engine's own /health says that it is ready."""
        try:
            with channel.connect(self.address, HEALTH_SECONDS) as connection:
                connection.settimeout(HEALTH_SECONDS)
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def _ending(self, returncode: int) -> Ending:
        number = children.KILLED if self._hung else children.crash(returncode, self._ready_at is not None)
        silent = self._defect or (number in children.FROM_OUTSIDE and not self._hung)
        words = "" if silent else self._log.trouble(self._ready_at is None)
        return Ending(
            sentence=f"the engine with {self.kernel} {self._how(returncode)}" + (f": {words!r:.300}" if words else ""),
            signal=number,
            status=None if number else returncode,
            hung=self._hung,
            kernel_refused=self.status.kernel_refused,
            on_gpu=self.kernel in GPUS,
            ready_seconds=None if self._ready_at is None else time.monotonic() - self._ready_at,
            port_taken=self._ready_at is None and bool(channel.TAKEN) and self._log.has(channel.TAKEN),
        )

    def _how(self, returncode: int) -> str:
        served = self._ready_at is not None
        phase = "while it served" if served else "while it started"
        if self._defect:
            return f"was ended {phase}, since it could not be watched ({type(self._defect).__name__}: {self._defect})"
        if self._hung:
            return f"hung for {HANG_SECONDS:.0f} seconds and was ended {phase}"
        return f"{how_it_ended(returncode, served)} {phase}"


class Pulse:
    """Whether a process that says nothing still does anything: computes, or reads memory that comes from a file."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._done: list[bytes] = []

    def gone(self, pid: int, heard: bool) -> bool:
        """True once it has done nothing from one look to the next, HANG_SECONDS later. `heard`: it said something."""
        now = time.monotonic()
        if heard:
            self._last = now
        if now - self._last < HANG_SECONDS:
            return False
        before, self._done, self._last = self._done, children.activity(pid), now
        return bool(before) and before == self._done


def how_it_ended(returncode: int, served: bool = False) -> str:
    """`was ended by SIGSEGV`, `ended with status 1`."""
    number = children.crash(returncode, served)
    return f"ended with status {returncode}" if number is None else f"was ended by {children.crash_name(number)}"
