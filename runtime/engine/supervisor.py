"""Keeps an engine running: starts it with the best backend, and after a death does what `verdict` says.

Used from plain code (`wait_ready`) and from event loops (`subscribe`) alike; every method may be called in any thread.
"""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mkllm.runtime.engine.arguments import NO_WARMUP
from mkllm.runtime.engine.log import Log
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.process import Engine
from mkllm.runtime.engine.verdict import Course, Ending, judge
from mkllm.runtime.errors import EngineUnusable, RuntimeFailure
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.platform.channel import is_connected
from mkllm.runtime.platform.children import LONGEST_WAIT

NOTICE_SECONDS = 8.0
MEASURING = "measuring what is fastest on this machine"
PREPARING = "mapped until they are"
UNPREPARED = "mapped, since that failed"
RESTORED = "weights restored in memory, since they are not used as they were prepacked"
Phase = Literal["loading", "ready", "failed", "stopped"]
# After a switch the engine before is kept for so long at the least: somebody may be about to connect to it.
KEPT_SECONDS = 5.0
DRAINING_SECONDS = 0.5


class Placer(Protocol):
    """Puts the engine and one backend where they can be executed."""

    def place(self, choice: Choice) -> Placed:
        """Raises NoSpace, PermissionFailure or NotAnArtifact."""


@dataclass(frozen=True)
class Order:
    """Kernels, best first, and with each the engine's `arguments`.

    `at_once`: arguments with which it is ready sooner, though slower (None: there are none). It then serves with these
    until a second one is ready with the others, and takes its place.
    """

    choices: Sequence[Choice]
    arguments: Callable[[Choice], Sequence[str]]
    at_once: Callable[[Choice], Sequence[str] | None] = lambda choice: None


class Tuner(Protocol):
    """Finds out by measuring in which order, and how, kernels are started."""

    def run(self) -> Order:
        """Blocks for seconds; never raises."""

    def stop(self) -> None:
        """Have `run` return soon."""


@dataclass(frozen=True)
class Plan:
    """All that a start needs. With a `tuner`, the order is what it finds, before the first start.

    `crashed` is told, once another kernel is ready, of every one that crashed of itself, and how; `proven` of one that
    is ready and has computed before; `doubted` of one whose end was nobody else's doing.
    """

    order: Order
    placer: Placer
    weights: Weights
    log: Log
    frozen_home: str | None = None
    tuner: Tuner | None = None
    crashed: Callable[[Choice, str], None] = lambda choice, sentence: None
    proven: Callable[[Choice], None] = lambda choice: None
    doubted: Callable[[Choice], None] = lambda choice: None


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
        self._order = plan.order
        self._tuning: threading.Thread | None = None
        self._course = Course()
        self._engine: Engine | None = None
        self._successor: Engine | None = None
        self._replaced: list[Engine] = []
        self._is_at_once = self._unprepared = False
        self._suspects: list[tuple[Choice, Ending]] = []
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
                reason=self._reason,
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
                self._changed.wait(_at_most(rest))
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
                self._changed.wait(_at_most(rest))
            return self.snapshot()

    def stop(self, grace: float = 3.0) -> None:
        """End the engine and whatever is being started: SIGTERM, after `grace` seconds SIGKILL. Idempotent."""
        with self._changed:
            self._stopped = True
            engines = [engine for engine in (self._engine, self._successor, *self._replaced) if engine]
        if self._tuning and self._plan.tuner and not engines:
            self._plan.tuner.stop()
            self._tuning.join()
        for engine in engines:
            engine.stop(grace)
        with self._changed:
            self._tell()
        self._plan.log.close()

    @property
    def _choice(self) -> Choice:
        return self._order.choices[self._course.position]

    @property
    def _reason(self) -> str:
        if self._tuning and not self._engine:
            return MEASURING
        how = self._choice.reason
        if self._engine and self._engine.status.restored:
            how = f"{how}; {RESTORED}"
        if self._is_at_once:
            how = f"{how}; {UNPREPARED if self._unprepared else PREPARING}"
        return how

    @property
    def _phase(self) -> Phase:
        if self._error:
            return "failed"
        if self._stopped:
            return "stopped"
        return "ready" if self._engine and self._engine.serves else "loading"

    def _tune(self, tuner: Tuner) -> None:
        try:
            order = tuner.run()
        except Exception as defect:  # whatever it is, the model can be served as it was ranked
            order, self._last_failure = self._order, f"nothing was measured ({type(defect).__name__}: {defect})"
        with self._changed:
            if not self._stopped:
                self._order = order
                self._spawn()

    def _spawn(self) -> None:
        """Start the engine that the course says; a failure to do so is kept in `_error`. Called with the lock held."""
        try:
            placed = self._plan.placer.place(self._choice)
            self._engine = self._made(placed)
            self._engine.start(self._words(), self._plan.frozen_home)
        except RuntimeFailure as failure:
            self._error = failure
        except OSError as error:
            self._error = EngineUnusable(_not_executed(placed, error))
        except RuntimeError as error:
            self._error = EngineUnusable(f"the engine cannot be watched ({error}): allow more processes and threads")
        self._tell()

    def _words(self) -> Sequence[str]:
        at_once = self._order.at_once(self._choice)
        self._is_at_once = at_once is not None
        return self._choice.arguments(at_once or self._order.arguments(self._choice))

    def _made(self, placed: Placed) -> Engine:
        return Engine(self._choice.name, placed, self._plan.weights, self._plan.log.another(), self._engine_changed)

    def _engine_changed(self, engine: Engine) -> None:
        with self._changed:
            if engine is self._successor:
                self._follow_successor(engine)
            if engine is not self._engine:
                return
            if engine.status.ended and not self._stopped and not engine.stopping:
                self._follow(engine.status.ended)
                return
            if engine.status.ready:
                self._accuse()
                self._acquit()
                if self._is_at_once and not (self._successor or self._unprepared or self._stopped):
                    self._prepare()
            self._tell()

    def _accuse(self) -> None:
        """What made other kernels crash does not hurt this one: it was they. Before, it might have been the model."""
        suspects, self._suspects = self._suspects, []
        for choice, ending in suspects:
            if choice is not self._choice:
                self._plan.crashed(choice, ending.sentence)

    def _acquit(self) -> None:
        """What has warmed up, in each way that it is started in, need not do so at the next launch."""
        if not self._is_at_once and NO_WARMUP not in self._order.arguments(self._choice):
            self._plan.proven(self._choice)

    def _prepare(self) -> None:
        """The engine serves: the better one is started beside it. If it cannot be, all stays as it is."""
        try:
            self._successor = self._made(self._plan.placer.place(self._choice))
            words = self._choice.arguments(self._order.arguments(self._choice))
            self._successor.start(words, self._plan.frozen_home)
        except (RuntimeFailure, OSError, RuntimeError) as failure:
            self._give_up_preparing(str(failure))

    def _give_up_preparing(self, why: str) -> None:
        self._successor, self._unprepared = None, True
        self._last_failure = f"the weights were not repacked: {why}"

    def _follow_successor(self, successor: Engine) -> None:
        if successor.status.ended:
            self._successor = None
            if not self._stopped and not successor.stopping:
                self._doubt(successor.status.ended)
                self._give_up_preparing(successor.status.ended.sentence)
            self._tell()
        elif successor.status.ready and self._engine:
            replaced, self._engine, self._successor = self._engine, successor, None
            self._is_at_once = False
            self._replaced.append(replaced)
            threading.Thread(target=self._drain, args=(replaced,), name="drain", daemon=True).start()

    def _drain(self, engine: Engine) -> None:
        """End an engine that was replaced, once nobody is connected to it any more."""
        time.sleep(KEPT_SECONDS)
        while not self._stopped and engine.serves and is_connected(engine.address):
            time.sleep(DRAINING_SECONDS)
        engine.stop(3.0)

    def _follow(self, ending: Ending) -> None:
        self._last_failure = ending.sentence
        self._doubt(ending)
        if self._successor:
            successor, self._successor = self._successor, None
            threading.Thread(target=successor.stop, args=(3.0,), name="drop", daemon=True).start()
        verdict = judge(ending, self._course, len(self._order.choices))
        if ending.is_the_kernels_own:
            self._suspects.append((self._choice, ending))
        if isinstance(verdict, RuntimeFailure):
            self._error = verdict
            self._tell()
        else:
            self._course = verdict
            self._restarts += 1
            self._spawn()

    def _doubt(self, ending: Ending) -> None:
        if not ending.from_outside:
            self._plan.doubted(self._choice)

    def _tell(self) -> None:
        self._changed.notify_all()
        snapshot = self.snapshot()
        for callback in list(self._subscribers):
            callback(snapshot)


def _at_most(seconds: float | None) -> float | None:
    """No longer than signals can be kept waiting."""
    if LONGEST_WAIT is None or seconds is None:
        return LONGEST_WAIT if seconds is None else seconds
    return min(seconds, LONGEST_WAIT)


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
