"""One run of the engine: spawned, watched by one thread, stopped; decides nothing about what follows its end.

The protocol (lifeline, status lines, embedded weights) is that of spec/launch.md, 3.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.engine.environment import for_placed
from mkllm.runtime.engine.log import Log
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.verdict import FROM_OUTSIDE, Ending
from mkllm.runtime.hardware.variants import GPUS

IDLE_SECONDS = 0.2
ASKING_SECONDS = 0.005
HEALTH_SECONDS = 2.0
HANG_SECONDS = 120.0
DUMPED = "0x10"  # core(5), coredump_filter: the headers of its files, none of its memory


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
        self.host = f"@mkllm-{os.getpid()}-{os.urandom(8).hex()}.sock"
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

    @property
    def address(self) -> str:
        """The abstract Unix socket, as `socket.connect` takes it."""
        return "\0" + self.host[1:]

    @property
    def pid(self) -> int | None:
        """The process, once started."""
        return self._process.pid if self._process else None

    def start(self, arguments: Sequence[str], frozen_home: str | None) -> None:
        """Spawn the process and the thread that watches it. Raises OSError when it cannot be executed."""
        status_end, status_far = os.pipe()
        lifeline_far, lifeline_end = os.pipe()
        words = [str(self._placed.program), *arguments, "--host", self.host]
        environment = {
            **for_placed(os.environ, self._placed, frozen_home),
            "LLAMA_API_KEY": self.key,
            **self._weights.variables(WEIGHTS),
            "MKLLM_STATUS_FD": str(status_far),
            "MKLLM_LIFELINE_FD": str(lifeline_far),
        }
        self._log.begin(" ".join(words))
        try:
            self._process = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=(status_far, lifeline_far, *self._weights.descriptors, *self._placed.descriptors),
                process_group=0,
            )
        except OSError:
            os.close(status_end)
            os.close(lifeline_end)
            raise
        finally:
            os.close(status_far)
            os.close(lifeline_far)
        _dump_no_memory(self._process.pid)
        self._thread = threading.Thread(target=self._watch, args=(status_end, lifeline_end), name="engine", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """End the process: SIGTERM, after `grace` seconds SIGKILL. Returns when it is gone. Idempotent.

        Waiting for the thread is quicker than for the process, which can only be polled.
        """
        self._stopping = True
        if self._process is None or self._thread is None:
            return
        self._process.send_signal(signal.SIGTERM)
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

    def _watch(self, status_end: int, lifeline_end: int) -> None:
        """Whatever happens here, the end of the process is noticed and told."""
        assert self._process is not None and self._process.stdout is not None
        try:
            self._follow(status_end, self._process.stdout.fileno())
        except Exception as defect:
            self._defect = defect
            self._process.kill()
        returncode = self._process.wait()
        os.close(status_end)
        os.close(lifeline_end)
        self._process.stdout.close()
        self._now(replace(self.status, ready=False, ended=self._ending(returncode)))

    def _follow(self, status_end: int, output: int) -> None:
        assert self._process is not None
        with selectors.DefaultSelector() as selector:
            selector.register(status_end, selectors.EVENT_READ, self._take_status)
            selector.register(output, selectors.EVENT_READ, self._log.feed)
            while selector.get_map() and self._process.poll() is None:
                asking = self.status.loaded and not self.status.ready
                heard = self._read(selector, ASKING_SECONDS if asking else IDLE_SECONDS)
                if self.status.loaded and not self.status.ready and self._answers():
                    self._ready_at = time.monotonic()
                    self._now(replace(self.status, ready=True))
                if not self.status.ready and self._pulse.gone(self._process.pid, heard):
                    self._hung = True
                    self._process.kill()
            self._process.wait()
            while selector.get_map() and self._read(selector, 0):
                pass

    def _read(self, selector: selectors.BaseSelector, timeout: float) -> bool:
        """Pass on what can be read within `timeout`; False when there was nothing."""
        events = selector.select(timeout)
        for key, _ in events:
            data = os.read(key.fd, 65536)
            if data:
                key.data(data)
            else:
                selector.unregister(key.fd)
        return bool(events)

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
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(HEALTH_SECONDS)
            try:
                connection.connect(self.address)
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
            except OSError:
                return False

    def _ending(self, returncode: int) -> Ending:
        number = -returncode if returncode < 0 else None
        return Ending(
            sentence=f"the engine with {self.kernel} {self._how(returncode)}",
            signal=number,
            status=None if number else returncode,
            hung=self._hung,
            kernel_refused=self.status.kernel_refused,
            on_gpu=self.kernel in GPUS,
            ready_seconds=None if self._ready_at is None else time.monotonic() - self._ready_at,
        )

    def _how(self, returncode: int) -> str:
        phase = "while it served" if self._ready_at is not None else "while it started"
        if self._defect:
            return f"was ended {phase}, since it could not be watched ({type(self._defect).__name__}: {self._defect})"
        how = f"hung for {HANG_SECONDS:.0f} seconds and was ended" if self._hung else how_it_ended(returncode)
        words = "" if -returncode in FROM_OUTSIDE and not self._hung else self._log.trouble(self._ready_at is None)
        return f"{how} {phase}" + (f": {words!r:.300}" if words else "")


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
        before, self._done, self._last = self._done, _done(pid), now
        return bool(before) and before == self._done


def _dump_no_memory(pid: int) -> None:
    """Gigabytes that are written to the disk after a crash, where core dumps are on, would hold up the next start."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/coredump_filter", "w") as file:
        file.write(DUMPED)


def _done(pid: int) -> list[bytes]:
    """Page faults and processor time so far (proc(5): minflt to cstime); of no process, none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[7:15]
    except OSError:
        return []


def how_it_ended(returncode: int) -> str:
    """`was ended by SIGSEGV`, `ended with status 1`."""
    return f"was ended by {signal_name(-returncode)}" if returncode < 0 else f"ended with status {returncode}"


def signal_name(number: int) -> str:
    """`SIGSEGV`, or `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
