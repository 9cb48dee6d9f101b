"""Tunes one launch: takes what was measured on this machine before, or measures, and remembers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mkllm.runtime.engine.measure import Laboratory
from mkllm.runtime.engine.supervisor import Order
from mkllm.runtime.hardware.load import Load
from mkllm.runtime.hardware.plans import Plans
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Effort, Settled, Tuned, Tuning, tuned, untuned
from mkllm.runtime.hardware.tune import tune


class Tuner:
    """Measures once; `run` blocks, `stop` ends it from another thread. `order` is made of what is found."""

    def __init__(
        self,
        choices: Sequence[Choice],
        order: Callable[[Tuned], Order],
        settled: Settled,
        facts: Facts,
        laboratory: Laboratory,
        plans: Plans,
        effort: Effort,
    ) -> None:
        self._choices = choices
        self._order = order
        self._settled = settled
        self._facts = facts
        self._laboratory = laboratory
        self._plans = plans
        self._effort = effort
        self._stopped = False

    def run(self) -> Order:
        """Measure and remember. What cannot be measured is as it was ranked."""
        return self._order(tuned(self._choices, self._settled, self.measure()))

    def measure(self) -> Tuning:
        """The same without what follows from it. Never raises for what cannot be measured."""
        load = Load()
        try:
            tuning = tune(self._choices, self._settled, self._facts, self._laboratory, self._effort)
        except OSError as error:
            tuning = untuned(self._choices, self._settled, f"not measured: {error.strerror or error}")
        if tuning.trials and load.is_busy():
            note = f"other programs used {load.others():.1f} of {self._cpus} CPUs while it was measured"
            tuning = replace(tuning, notes=(*tuning.notes, note), lasting=False, busy=True)
        if not self._stopped:
            self._plans.remember(tuning)
        return tuning

    @property
    def _cpus(self) -> int:
        return self._facts.cpus_online or self._facts.cpus

    def stop(self) -> None:
        """End what is being measured; `run` returns soon."""
        self._stopped = True
        self._laboratory.stop()
