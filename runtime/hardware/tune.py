"""Choices to a plan, by measuring: kernel, repacked weights, threads, flash attention, batch; starts nothing itself.

The ranking says where to begin; what is measured has to be clearly better to be taken instead. All times are those of
a slice of the model, so they are told as speeds of the whole model by its share.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from mkllm.runtime.amounts import counted
from mkllm.runtime.artifact.footprint import BATCH
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Effort, Settings, Settled, Trial, Tuning, untuned

QUICK_SECONDS, FULL_SECONDS = 3.0, 60.0
MARGIN = 1.03  # less is noise, and the simpler setting is kept
EQUAL = 0.98  # as fast with fewer threads leaves more to others
HOPELESS = 0.5  # of the best speed so far: it is not looked at any longer
FAR = 0.8  # of the best time so far: what comes after it in the ranking is not looked at
REPACK_SECONDS = 30.0  # the most that repacking may add to a start
KERNELS = 4  # at most so many kernels are looked at quickly
DEPTH = 512


class Bench(Protocol):
    """A process that measures one kernel (engine/measure.py); methods raise NotMeasured."""

    limit: float | None

    def load(self, repack: bool) -> float: ...
    def context(self, tokens: int, batch: int, flash: bool) -> float: ...
    def threads(self, number: int) -> None: ...
    def neighbours(self, number: int) -> None: ...
    def fill(self, tokens: int) -> float: ...
    def prompt(self, tokens: int, milliseconds: int) -> list[float]: ...
    def generate(self, milliseconds: int) -> list[float]: ...
    def close(self) -> None: ...


class Laboratory(Protocol):
    """Where benches come from (engine/measure.py)."""

    def slice(self, choice: Choice, megabytes: int, seconds: float) -> float: ...
    def open(self, choice: Choice) -> Bench: ...
    def close(self) -> None: ...


class NotMeasured(Exception):
    """A measurement that came to nothing; the text says why. `crashed`: the backend took its process with it."""

    def __init__(self, text: str, crashed: bool = False) -> None:
        super().__init__(text)
        self.crashed = crashed


def tune(
    choices: Sequence[Choice],
    settled: Settled,
    facts: Facts,
    laboratory: Laboratory,
    effort: Effort,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Measure for at most three seconds (`quick`) or a minute (`full`). Never raises for what cannot be measured."""
    search = _Search(choices, settled, facts, laboratory, effort, clock)
    try:
        return search.run()
    finally:
        search.close()


class _Search:
    """One search; the order is that of what matters most, and what there is no time for stays as it is."""

    def __init__(
        self,
        choices: Sequence[Choice],
        settled: Settled,
        facts: Facts,
        laboratory: Laboratory,
        effort: Effort,
        clock: Callable[[], float],
    ) -> None:
        self._choices = choices
        self._settled = settled
        self._facts = facts
        self._laboratory = laboratory
        self._full = effort == "full"
        self._clock = clock
        self._begun = clock()
        self._end = self._begun + (FULL_SECONDS if self._full else QUICK_SECONDS)
        self._share = 1.0
        self._benches: dict[str, Bench] = {}
        self._loaded: dict[str, bool] = {}
        self._trials: list[Trial] = []
        self._notes: list[str] = []
        self._complete = True
        self._crashed: list[tuple[str, str]] = []

    def run(self) -> Tuning:
        settings = untuned(self._choices, self._settled).settings
        try:
            self._share = self._laboratory.slice(self._choices[0], _megabytes(self._facts), self._left)
            best = self._kernels(settings)
            for step in (self._generating_threads, self._prompt_threads, self._attention, self._batches):
                best = self._attempt(step, best)
            settings = best
        except NotMeasured as failure:
            self._notes.append(f"not measured: {failure}")
            if not self._trials:
                return replace(untuned(self._choices, self._settled), notes=tuple(self._notes), crashed=self._dead)
        seconds = self._clock() - self._begun
        return Tuning(settings, tuple(self._trials), tuple(self._notes), self._dead, seconds, self._complete)

    def close(self) -> None:
        for bench in self._benches.values():
            bench.close()
        self._laboratory.close()

    @property
    def _left(self) -> float:
        return self._end - self._clock()

    @property
    def _dead(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._crashed)

    def _attempt(self, step: Callable[[Settings], Settings], best: Settings) -> Settings:
        """A step that fails changes nothing."""
        try:
            return step(best)
        except NotMeasured as failure:
            self._miss(failure)
            return best

    def _miss(self, failure: NotMeasured) -> None:
        """What could not be measured in this launch may be in the next."""
        self._notes.append(f"not measured: {failure}")
        self._complete = False

    # --- kernels, and whether weights are repacked ----------------------------------------------------------------

    def _kernels(self, start: Settings) -> Settings:
        best: Trial | None = None
        for number, choice in enumerate(self._choices if self._full else self._choices[:KERNELS]):
            found = list(self._modes(choice, start, best))
            if not found and best and self._left < QUICK_SECONDS / 10:
                self._notes.append(f"{choice.name} and what follows it were not measured: the time was up")
                self._complete = False
                break
            best = min([trial for trial in [best, *found] if trial], key=_turn_with_margin(best), default=None)
            self._keep(best)
            if number and not self._full and best and all(_is_hopeless(trial, best) for trial in found):
                break
        if best is None:
            raise NotMeasured("no kernel could be measured")
        return best.settings

    def _keep(self, best: Trial | None) -> None:
        """Of the benches only that of the best kernel, since each holds a slice of the model."""
        for kernel in [kernel for kernel in self._benches if not best or kernel != best.settings.kernel]:
            self._benches.pop(kernel).close()
            self._loaded.pop(kernel, None)

    def _bury(self, kernel: str, sentence: str, is_kernel: bool) -> None:
        """A process has died: of the kernel itself, or of what was tried with it after it had worked."""
        self._benches.pop(kernel).close()
        self._loaded.pop(kernel, None)
        if is_kernel:
            self._crashed.append((kernel, sentence))

    def _modes(self, choice: Choice, start: Settings, best: Trial | None) -> Iterator[Trial]:
        """This kernel with its weights as they are, then repacked; of later kernels only as the best one has them."""
        only = self._settled.repack
        if only is None and best is not None and not self._full:
            only = best.settings.repack
        first: Trial | None = None
        for repack in (False, True) if only is None else (only,):
            settings = replace(start, kernel=choice.name, repack=repack)
            try:
                trial = self._trial(settings, best)
            except NotMeasured as failure:
                if not failure.crashed and best is None and first is None:
                    raise  # a part of the model that cannot be loaded is none with the other kernels either
                self._miss(failure)
                if failure.crashed:
                    self._bury(choice.name, str(failure), is_kernel=first is None)
                return
            if trial is None:
                return
            self._trials.append(trial)
            if first is None or trial.turn * MARGIN < first.turn:
                first = trial
                yield trial

    def _trial(self, settings: Settings, best: Trial | None) -> Trial | None:
        """Prompt and generation with these settings; None when there is no time, or repacking would take too long."""
        bench = self._bench(settings.kernel)
        if bench is None:
            return None
        seconds = self._load(bench, settings)
        if settings.repack and seconds / self._share > REPACK_SECONDS and self._settled.repack is None:
            self._notes.append(f"weights are not repacked: it would take {seconds / self._share:.0f} s at every start")
            return None
        bench.threads(settings.threads_batch)
        prompt = self._prompt(bench, best)
        bench.threads(settings.threads)
        generation = self._generation(bench)
        return Trial(f"{settings.kernel}, weights {settings.layout}", settings, prompt, generation)

    def _bench(self, kernel: str) -> Bench | None:
        """None when there is no time."""
        if kernel not in self._benches and self._left > 0:
            choice = next(choice for choice in self._choices if choice.name == kernel)
            self._benches[kernel] = self._laboratory.open(choice)
            self._benches[kernel].limit = self._end
        return self._benches.get(kernel) if self._left >= 0.1 else None

    def _load(self, bench: Bench, settings: Settings) -> float:
        """The weights as these settings have them, and room for what is measured; seconds that the weights took."""
        seconds = bench.load(settings.repack)
        self._loaded[settings.kernel] = settings.repack
        bench.context(2 * BATCH, self._settled.batch, True)
        return seconds

    def _again(self, settings: Settings) -> Bench:
        """The bench of these settings, loaded as they say."""
        bench = self._bench(settings.kernel)
        if bench is None:
            raise NotMeasured("the time was up")
        if self._loaded.get(settings.kernel) != settings.repack:
            self._load(bench, settings)
        return bench

    # --- threads ----------------------------------------------------------------------------------------------------

    def _generating_threads(self, best: Settings) -> Settings:
        if self._settled.threads_settled:
            return best
        bench = self._again(best)
        found = self._compare(self._numbers(best.threads), bench, lambda: self._generation(bench))
        if not found:
            return best
        number = self._considerate(_fewest(found), found, bench)
        for other, speed in found.items():
            settings = replace(best, threads=other)
            self._trials.append(Trial(f"generating with {counted(other, 'thread')}", settings, 0, speed, "generating"))
        return replace(best, threads=number)

    def _prompt_threads(self, best: Settings) -> Settings:
        if self._settled.threads_batch is not None or self._settled.threads_settled:
            return best
        bench = self._again(best)
        found = self._compare(self._numbers(self._settled.threads), bench, lambda: self._prompt(bench, None))
        for other, speed in found.items():
            settings = replace(best, threads_batch=other)
            self._trials.append(Trial(f"reading with {counted(other, 'thread')}", settings, speed, 0, "reading"))
        return replace(best, threads_batch=_fewest(found)) if found else best

    def _numbers(self, usual: int) -> list[int]:
        """Numbers of threads to compare: the usual one, all processors, half; with time also those between."""
        limit = max(1, self._facts.cpus)
        numbers = {usual, limit, usual // 2} | ({usual - 1, *(2**i for i in range(8))} if self._full else set())
        return sorted(number for number in numbers if 1 <= number <= limit)

    def _compare(self, numbers: Sequence[int], bench: Bench, measure: Callable[[], float]) -> dict[int, float]:
        """The speed with each number of threads, in turn and back, so that a passing disturbance meets all of them."""
        if len(numbers) < 2:
            return {}
        found: dict[int, list[float]] = {number: [] for number in numbers}
        took = 0.0
        for number in (*reversed(numbers), *numbers):
            if self._left < took and all(found.values()):
                break
            before = self._clock()
            bench.threads(number)
            found[number].append(measure())
            took = max(took, self._clock() - before)
        return {number: max(speeds) for number, speeds in found.items()}

    def _considerate(self, number: int, found: dict[int, float], bench: Bench) -> int:
        """One thread less, if a busy neighbour then costs much less, and a quiet machine loses next to nothing."""
        if not self._full or number < 2 or number < self._facts.cpus:
            return number
        speeds = {}
        bench.neighbours(1)
        for fewer in (number, number - 1):
            bench.threads(fewer)
            speeds[fewer] = self._generation(bench)
        bench.neighbours(0)
        self._notes.append(
            f"beside a busy neighbour {counted(number, 'thread')} generate {speeds[number]:.1f} tokens/s, "
            f"{counted(number - 1, 'thread')} {speeds[number - 1]:.1f}"
        )
        is_close = found.get(number - 1, 0) * MARGIN > found[number]
        return number - 1 if is_close and speeds[number - 1] > speeds[number] * 1.3 else number

    # --- attention and batches ------------------------------------------------------------------------------------

    def _attention(self, best: Settings) -> Settings:
        """Flash attention pays where much is in the context, so it is measured there."""
        if self._settled.flash is not None:
            return best
        bench = self._again(best)
        rate = max(trial.prompt for trial in self._trials) / self._share
        depth = min(DEPTH, int(self._left / 4 * rate) // 64 * 64)
        if depth < 64:
            self._notes.append("flash attention was not compared: the time was up")
            return best
        for flash in (True, False):
            bench.context(2 * DEPTH, self._settled.batch, flash)
            bench.threads(best.threads_batch)
            reading = depth / bench.fill(depth) * self._share
            bench.threads(best.threads)
            what = f"{'with' if flash else 'without'} flash attention, after {depth} tokens"
            settings = replace(best, flash=flash)
            self._trials.append(Trial(what, settings, reading, self._generation(bench), "attention"))
        bench.context(2 * BATCH, self._settled.batch, True)
        with_it, without = self._trials[-2:]
        return without.settings if without.turn * MARGIN < with_it.turn else best

    def _batches(self, best: Settings) -> Settings:
        """Only with time, since it takes prompts that are longer than any batch."""
        if not self._full or self._settled.batch_settled or self._settled.batch != BATCH:
            return best
        bench = self._again(best)
        found: dict[int, float] = {}
        flash = best.flash is not False
        for batch in (BATCH, 256, 1024, 2048):
            if self._left < 4.0:
                self._notes.append("not every batch was compared: the time was up")
                break
            bench.context(2048, batch, flash)
            bench.threads(best.threads_batch)
            found[batch] = 2048 / bench.fill(2048) * self._share
            settings = replace(best, batch=batch)
            self._trials.append(Trial(f"reading in batches of {batch}", settings, found[batch], 0, "batch"))
        fastest = max(found, key=lambda batch: found[batch], default=BATCH)
        return replace(best, batch=fastest) if found and found[fastest] > found[BATCH] * MARGIN else best

    # --- speeds, in tokens a second of the whole model -----------------------------------------------------------

    def _prompt(self, bench: Bench, best: Trial | None) -> float:
        """Of as many tokens as can be read in a moment; of a slow kernel the first look is enough."""
        look = 16 / min(bench.prompt(16, 1))
        if best and look * self._share < HOPELESS * best.prompt:
            return look * self._share
        tokens = max(16, min(256, 1 << int(look * (0.3 if self._full else 0.03)).bit_length()))
        return tokens / _median(bench.prompt(tokens, 300 if self._full else 60)) * self._share

    def _generation(self, bench: Bench) -> float:
        return self._share / _median(bench.generate(300 if self._full else 60))


def _megabytes(facts: Facts) -> int:
    """Of the slice: much more than a cache holds, and little of what is free."""
    cache = facts.caches.get("L3", 0)
    return max(16, min(max(128, 4 * (cache >> 20)), 1024, facts.memory_available >> 23))


def _turn_with_margin(best: Trial | None) -> Callable[[Trial], float]:
    """What was the best so far stays it unless another is clearly better."""
    return lambda trial: trial.turn / (MARGIN if trial is best else 1.0)


def _is_hopeless(trial: Trial, best: Trial) -> bool:
    """So much slower that those of fewer features, which come after it, need not be looked at."""
    return trial.turn * FAR > best.turn


def _fewest(found: dict[int, float]) -> int:
    """The smallest number of threads that is as fast as the fastest."""
    most = max(found.values())
    return min(number for number, speed in found.items() if speed >= most * EQUAL)


def _median(samples: Sequence[float]) -> float:
    return sorted(samples)[len(samples) // 2]
