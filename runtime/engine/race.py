"""Several ways to run the whole model, measured in turn, round by round, so that a disturbance meets all of them.

What is measured is decided by who asks; processes that are compared are never loaded at the same time, since each may
hold the model a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Settings
from mkllm.runtime.hardware.tune import Bench as Tuned
from mkllm.runtime.hardware.tune import NotMeasured

LOOK = 16  # tokens of a first reading, which touches all weights, and is not counted
MEMORY_MILLISECONDS = 1000


class Bench(Tuned, Protocol):
    """A process that runs the model with one kernel (engine/measure.py)."""

    def times(self, number: int) -> None: ...
    def memory(self, megabytes: int, milliseconds: int) -> list[float]: ...


class Laboratory(Protocol):
    """Where benches come from (engine/measure.py)."""

    def open_whole(self, choice: Choice) -> Bench: ...


@dataclass(frozen=True)
class Course:
    """What every runner does in each of the `rounds`: with `depth` tokens before, read `prompt`, generate `tokens`.

    `batch` tokens are computed at once where its settings say nothing else. `refill`: the model's state cannot be taken
    back to an earlier token, so the depth is read anew each time.
    """

    prompt: int
    tokens: int
    rounds: int
    depth: int
    batch: int
    refill: bool = False

    @property
    def context(self) -> int:
        """Tokens that there is to be room for."""
        return self.depth + max(self.prompt, self.tokens, LOOK)


@dataclass(frozen=True)
class Runner:
    """One kernel with its settings."""

    choice: Choice
    settings: Settings

    @property
    def title(self) -> str:
        """`cpu-haswell, weights mapped`."""
        return f"{self.choice.name}, weights {self.settings.layout}"


@dataclass(frozen=True)
class Result:
    """Of each round: tokens a second of reading and of generating; of each start: seconds to load.

    `failure` says why there is no more.
    """

    runner: Runner
    prompts: tuple[float, ...] = ()
    generations: tuple[float, ...] = ()
    loads: tuple[float, ...] = ()
    failure: str | None = None


class Race:
    """One race; `tell` is called before each of the `steps`, with what comes now."""

    def __init__(
        self, laboratory: Laboratory, course: Course, runners: Sequence[Runner], tell: Callable[[str], None]
    ) -> None:
        self._laboratory = laboratory
        self._course = course
        self._runners = runners
        self._tell = tell
        self._alone: Bench | None = None
        self._results = {runner: Result(runner) for runner in runners}

    @property
    def steps(self) -> int:
        """How often `tell` will be called if nothing fails."""
        starts = self._course.rounds if len(self._runners) > 1 else 1
        return (2 * self._course.rounds + starts) * len(self._runners)

    def run(self) -> tuple[Result, ...]:
        """All rounds, every other one backwards. A runner that fails once is not run again."""
        try:
            for number in range(self._course.rounds):
                for runner in self._runners if number % 2 == 0 else reversed(self._runners):
                    if self._results[runner].failure is None:
                        self._turn(runner, f"round {number + 1}, {runner.title}")
        finally:
            if self._alone:
                self._alone.close()
        return tuple(self._results.values())

    def _turn(self, runner: Runner, title: str) -> None:
        try:
            self._measure(runner, title)
        except NotMeasured as failure:
            self._add(runner, failure=str(failure))

    def _measure(self, runner: Runner, title: str) -> None:
        bench = self._alone or self._opened(runner, title)
        try:
            self._tell(f"{title}: reading")
            prompt = self._reading(bench, runner.settings)
            self._tell(f"{title}: generating")
            generation = self._generating(bench, runner.settings)
        finally:
            if len(self._runners) == 1:
                self._alone = bench
            else:
                bench.close()
        self._add(runner, prompts=prompt, generations=generation)

    def _opened(self, runner: Runner, title: str) -> Bench:
        """Loaded, with the depth in its context, and all weights touched once."""
        self._tell(f"{title}: loading")
        settings, course = runner.settings, self._course
        bench = self._laboratory.open_whole(runner.choice)
        try:
            self._add(runner, loads=bench.load(settings.repack))
            bench.context(course.context, settings.batch or course.batch, settings.flash is not False)
            bench.threads(settings.threads_batch)
            bench.times(1)
            bench.prompt(LOOK, 0)
            if course.depth:
                bench.fill(course.depth)
        except BaseException:
            bench.close()
            raise
        return bench

    def _reading(self, bench: Bench, settings: Settings) -> float:
        bench.threads(settings.threads_batch)
        self._refill(bench)
        bench.times(1)
        return self._course.prompt / sum(bench.prompt(self._course.prompt, 0))

    def _generating(self, bench: Bench, settings: Settings) -> float:
        self._refill(bench)
        bench.threads(settings.threads)
        bench.times(self._course.tokens)
        return self._course.tokens / sum(bench.generate(0))

    def _refill(self, bench: Bench) -> None:
        if self._course.refill and self._course.depth:
            bench.fill(self._course.depth)

    def _add(
        self,
        runner: Runner,
        prompts: float | None = None,
        generations: float | None = None,
        loads: float | None = None,
        failure: str | None = None,
    ) -> None:
        before = self._results[runner]
        self._results[runner] = Result(
            runner,
            before.prompts if prompts is None else (*before.prompts, prompts),
            before.generations if generations is None else (*before.generations, generations),
            before.loads if loads is None else (*before.loads, loads),
            failure,
        )


def bandwidth(laboratory: Laboratory, runner: Runner, megabytes: int) -> tuple[float, ...]:
    """Bytes a second that the threads of generation read of a buffer, several times. Raises NotMeasured."""
    bench = laboratory.open_whole(runner.choice)
    try:
        bench.threads(runner.settings.threads)
        bench.times(3)
        return tuple((megabytes << 20) / seconds for seconds in bench.memory(megabytes, MEMORY_MILLISECONDS))
    finally:
        bench.close()
