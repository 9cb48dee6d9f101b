"""Tunes one launch: takes what was measured on this machine before, or measures, and remembers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mkllm.runtime.engine.measure import Laboratory
from mkllm.runtime.hardware.load import Load
from mkllm.runtime.hardware.plans import Plans
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Effort, Settings, Settled, Tuning, tuned, untuned
from mkllm.runtime.hardware.tune import tune

Arguments = Callable[[Choice], Sequence[str]]


class Tuner:
    """Measures once; `run` blocks, `stop` ends it from another thread. `arguments` makes an engine's of settings."""

    def __init__(
        self,
        choices: Sequence[Choice],
        arguments: Callable[[Settings], Sequence[str]],
        settled: Settled,
        facts: Facts,
        laboratory: Laboratory,
        plans: Plans,
        effort: Effort,
    ) -> None:
        self._choices = choices
        self._arguments = arguments
        self._settled = settled
        self._facts = facts
        self._laboratory = laboratory
        self._plans = plans
        self._effort = effort

    def run(self) -> tuple[Sequence[Choice], Arguments]:
        """Measure and remember: kernels in order, and how to start each. What is not measured is as it was ranked."""
        found = tuned(self._choices, self._settled, self.measure())
        return found.choices, lambda choice: self._arguments(found.settings(choice))

    def measure(self) -> Tuning:
        """The same without what follows from it. Never raises for what cannot be measured."""
        load = Load()
        try:
            tuning = tune(self._choices, self._settled, self._facts, self._laboratory, self._effort)
        except OSError as error:
            tuning = untuned(self._choices, self._settled, f"not measured: {error.strerror or error}")
        if tuning.trials and load.is_busy():
            note = f"other programs used {load.others():.1f} of {self._facts.cpus} CPUs while it was measured"
            tuning = replace(tuning, notes=(*tuning.notes, note), lasting=False)
        if tuning.trials or tuning.crashed:
            self._plans.remember(tuning)
        return tuning

    def stop(self) -> None:
        """End what is being measured; `run` returns soon."""
        self._laboratory.stop()
