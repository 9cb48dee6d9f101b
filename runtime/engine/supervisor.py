"""Keeps an engine running: starts it with the best backend, and after a death does what `verdict` says.

Used from plain code (`wait_ready`) and from event loops (`subscribe`) alike; every method may be called in any thread.
"""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mkllm.runtime.engine.log import Log
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.process import Engine
from mkllm.runtime.engine.verdict import Course, Ending, judge
from mkllm.runtime.errors import EngineUnusable, RuntimeFailure
from mkllm.runtime.hardware.rank import Choice

NOTICE_SECONDS = 8.0
MEASURING = "measuring what is fastest on this machine"
Phase = Literal["loading", "ready", "failed", "stopped"]
Arguments = Callable[[Choice], Sequence[str]]


class Placer(Protocol):
    """Puts the engine and one backend where they can be executed."""

    def place(self, choice: Choice) -> Placed:
        """Raises NoSpace, PermissionFailure or NotAnArtifact."""


class Tuner(Protocol):
    """Finds out by measuring in which order, and how, kernels are started."""

    def run(self) -> tuple[Sequence[Choice], Arguments]:
        """Blocks for seconds; never raises."""

    def stop(self) -> None:
        """Have `run` return soon."""


@dataclass(frozen=True)
class Plan:
    """All that a start needs: at least one of the ranking's `choices`, and with each the engine's `arguments`.

    With a `tuner`, choices and arguments are what it finds, before the first start. `crashed` is told of every kernel
    that is left for the next one, and why.
    """

    choices: Sequence[Choice]
    placer: Placer
    weights: Weights
    arguments: Arguments
    log: Log
    frozen_home: str | None = None
    tuner: Tuner | None = None
    crashed: Callable[[Choice, str], None] = lambda choice, sentence: None


@dataclass(frozen=True)
class Snapshot:
    """How things are at one moment (spec/launch.md, 4)."""

    phase: Phase
    progress: float
    kernel: str
    reason: str
    address: str
    key: str
    pid: int | None
    restarts: int
    last_failure: str | None
    error: RuntimeFailure | None


class Supervisor:
    """The engine of one launch, over all its restarts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._choices = plan.choices
        self._arguments = plan.arguments
        self._tuning: threading.Thread | None = None
        self._course = Course()
        self._engine: Engine | None = None
        self._restarts = 0
        self._last_failure: str | None = None
        self._error: RuntimeFailure | None = None
        self._stopped = False
        self._changed = threading.Condition(threading.RLock())
        self._subscribers: list[Callable[[Snapshot], None]] = []

    def start(self) -> None:
        """Start the engine with the best backend, without waiting. Raises a RuntimeFailure when it cannot be placed."""
        if self._plan.tuner:
            self._tuning = threading.Thread(target=self._tune, args=(self._plan.tuner,), name="tuner", daemon=True)
            self._tuning.start()
            return
        with self._changed:
            self._spawn()
        if self._error:
            raise self._error

    def snapshot(self) -> Snapshot:
        """How things are now; never blocks for long."""
        with self._changed:
            choice = self._choice
            engine = self._engine
            return Snapshot(
                phase=self._phase,
                progress=engine.status.progress if engine else 0.0,
                kernel=choice.name,
                reason=MEASURING if self._tuning and not engine else choice.reason,
                address=engine.address if engine else "",
                key=engine.key if engine else "",
                pid=engine.pid if engine else None,
                restarts=self._restarts,
                last_failure=self._last_failure,
                error=self._error,
            )

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Have `callback` called now and after every change, in a thread of the engine's. Returns what ends that."""
        with self._changed:
            self._subscribers.append(callback)
            callback(self.snapshot())

        def unsubscribe() -> None:
            with self._changed:
                if callback in self._subscribers:
                    self._subscribers.remove(callback)

        return unsubscribe

    def wait_ready(self, timeout: float | None = None) -> Snapshot:
        """Block until requests are served, or raise the RuntimeFailure it ended with; TimeoutError after `timeout`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._phase == "loading":
                rest = None if deadline is None else deadline - time.monotonic()
                if rest is not None and rest <= 0:
                    raise TimeoutError("the engine is not ready yet")
                self._changed.wait(rest)
            if self._error:
                raise self._error
            if self._phase == "stopped":
                raise EngineUnusable("the engine was stopped before it was ready")
            return self.snapshot()

    def wait_followed(self, old: Snapshot, timeout: float = NOTICE_SECONDS) -> Snapshot:
        """The first snapshot after the end of `old`'s engine was dealt with; after `timeout` seconds any.

        A process ends a moment before its end is noticed, and until then nothing is known of why.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._restarts == old.restarts and not self._error and not self._stopped:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    break
                self._changed.wait(rest)
            return self.snapshot()

    def stop(self, grace: float = 3.0) -> None:
        """End the engine and whatever is being started: SIGTERM, after `grace` seconds SIGKILL. Idempotent."""
        with self._changed:
            self._stopped = True
            engine = self._engine
        if self._tuning and self._plan.tuner and not engine:
            self._plan.tuner.stop()
            self._tuning.join()
        if engine:
            engine.stop(grace)
        with self._changed:
            self._tell()
        self._plan.log.close()

    @property
    def _choice(self) -> Choice:
        return self._choices[self._course.position]

    @property
    def _phase(self) -> Phase:
        if self._error:
            return "failed"
        if self._stopped:
            return "stopped"
        return "ready" if self._engine and self._engine.serves else "loading"

    def _tune(self, tuner: Tuner) -> None:
        choices, arguments = tuner.run()
        with self._changed:
            if not self._stopped:
                self._choices, self._arguments = choices, arguments
                self._spawn()

    def _spawn(self) -> None:
        """Start the engine that the course says; a failure to do so is kept in `_error`. Called with the lock held."""
        try:
            placed = self._plan.placer.place(self._choice)
            engine = Engine(self._choice.name, placed, self._plan.weights, self._plan.log, self._engine_changed)
            self._engine = engine
            engine.start(self._arguments(self._choice), self._plan.frozen_home)
        except RuntimeFailure as failure:
            self._error = failure
        except OSError as error:
            self._error = EngineUnusable(_not_executed(placed, error))
        self._tell()

    def _engine_changed(self, engine: Engine) -> None:
        with self._changed:
            if engine is not self._engine:
                return
            if engine.status.ended and not self._stopped and not engine.stopping:
                self._follow(engine.status.ended)
            else:
                self._tell()

    def _follow(self, ending: Ending) -> None:
        self._last_failure = ending.sentence
        verdict = judge(ending, self._course, len(self._choices))
        if not isinstance(verdict, RuntimeFailure) and verdict.position != self._course.position:
            self._plan.crashed(self._choice, ending.sentence)
        if isinstance(verdict, RuntimeFailure):
            self._error = verdict
            self._tell()
        else:
            self._course = verdict
            self._restarts += 1
            self._spawn()

    def _tell(self) -> None:
        self._changed.notify_all()
        snapshot = self.snapshot()
        for callback in list(self._subscribers):
            callback(snapshot)


def _not_executed(placed: Placed, error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return (
            f"the engine cannot be given its arguments ({error.strerror}): shorten the words after the --, "
            "or build the file with a shorter system prompt"
        )
    return (
        f"the engine {str(placed.program)!r} cannot be executed ({error.strerror}): "
        "set MKLLM_RUNTIME_DIR to a folder on a disk that allows it"
    )
