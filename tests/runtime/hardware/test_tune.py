"""What is chosen by measuring, on machines that are played: their laboratory's clock goes by what they would need."""

from dataclasses import dataclass, field, replace

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Settings, Settled, Trial, tuned, untuned
from mkllm.runtime.hardware.tune import FULL_SECONDS, QUICK_SECONDS, NotMeasured, tune

FACTS = Facts(cpus=8, cores=4, caches={"L3": 16 << 20}, memory_available=16 << 30, memory_total=32 << 30)
SHARE = 0.1


def choices(*names):
    return [Choice(Backend(f"cpu-{name}", f"native/{name}.so"), name.upper(), "as ranked") for name in names]


@dataclass
class Machine:
    """Tokens a second of the whole model, by what is set; `prompt` and `generation` may be functions of it."""

    prompt: object = lambda kernel, repack, threads, flash, batch: 100.0
    generation: object = lambda kernel, repack, threads, flash, busy: 20.0
    repack_seconds: float = 1.0
    crashes: dict = field(default_factory=dict)
    now: float = 0.0
    opened: list = field(default_factory=list)
    left: int = 0
    asked: list = field(default_factory=list)

    def clock(self):
        return self.now

    def slice(self, choice, megabytes, seconds):
        self.asked.append(("slice", megabytes))
        self.now += 0.1
        return SHARE

    def open(self, choice):
        self.opened.append(choice.name)
        self.left += 1
        return Bench(self, choice.name)

    def close(self):
        self.asked.append(("closed",))


@dataclass
class Bench:
    machine: Machine
    kernel: str
    limit: float | None = None
    repack: bool = False
    flash: bool = True
    batch: int = 512
    number: int = 1
    busy: int = 0

    def _take(self, seconds, word):
        if self.machine.crashes.get(self.kernel) == word:
            raise NotMeasured(f"{self.kernel} was ended by SIGILL at {word!r}", crashed=True)
        self.machine.asked.append((word, self.kernel))
        if self.limit is not None and self.machine.now + seconds > self.limit:
            self.machine.now = self.limit
            raise NotMeasured(f"{self.kernel} did not answer {word!r} in time")
        self.machine.now += seconds

    def load(self, repack):
        seconds = self.machine.repack_seconds * SHARE if repack else 0.02
        self._take(seconds, "load")
        self.repack = repack
        return seconds

    def context(self, tokens, batch, flash):
        self.flash, self.batch = flash, batch
        return 0.0

    def threads(self, number):
        self.number = number

    def neighbours(self, number):
        self.busy = number

    def _reading(self, tokens):
        rate = self.machine.prompt(self.kernel, self.repack, self.number, self.flash, self.batch)
        return tokens / rate * SHARE

    def fill(self, tokens):
        self._take(self._reading(tokens), "fill")
        return self._reading(tokens)

    def prompt(self, tokens, milliseconds):
        times = max(3, int(milliseconds / 1000 / self._reading(tokens)) + 1)
        self._take(times * self._reading(tokens), "prompt")
        return [self._reading(tokens)] * times

    def generate(self, milliseconds):
        rate = self.machine.generation(self.kernel, self.repack, self.number, self.flash, self.busy)
        times = max(3, int(milliseconds / 1000 * rate / SHARE) + 1)
        self._take(times / rate * SHARE, "generate")
        return [SHARE / rate] * times

    def close(self):
        self.machine.left -= 1


def run(machine, names=("zen4", "haswell", "x64"), settled=None, effort="quick", facts=FACTS):
    settled = settled or Settled(threads=4)
    return tune(choices(*names), settled, facts, machine, effort, machine.clock)


def by(table, otherwise):
    return lambda *setting: next((value for test, value in table if test(*setting)), otherwise)


def test_nothing_to_choose_keeps_the_ranking_with_fewer_threads():
    found = run(Machine())
    assert found.settings == Settings("cpu-zen4", 2, 2) and found.trials and found.crashed == ()


def test_repacked_weights_where_they_are_faster():
    machine = Machine(prompt=lambda kernel, repack, *_: 200.0 if repack else 100.0)
    assert run(machine).settings.repack is True
    slower = Machine(prompt=lambda kernel, repack, *_: 80.0 if repack else 100.0)
    assert run(slower).settings.repack is False


def test_what_a_turn_takes_decides_where_prompt_and_generation_disagree():
    machine = Machine(
        prompt=lambda kernel, repack, *_: 166.0 if repack else 287.0,
        generation=lambda kernel, repack, *_: 46.0 if repack else 39.5,
    )
    assert run(machine).settings.repack is False


def test_a_gain_within_the_noise_changes_nothing():
    machine = Machine(
        prompt=lambda kernel, repack, *_: 102.0 if repack else 100.0,
        generation=lambda kernel, repack, *_: 20.4 if repack else 20.0,
    )
    assert run(machine).settings.repack is False


def test_repacking_that_takes_too_long_is_left_and_said():
    machine = Machine(prompt=lambda kernel, repack, *_: 200.0 if repack else 100.0, repack_seconds=45.0)
    found = run(machine, effort="full")
    assert found.settings.repack is False
    assert "weights are not repacked: it would take 45 s at every start" in found.notes


def test_a_lower_ranked_kernel_that_is_faster_is_taken():
    machine = Machine(prompt=lambda kernel, *_: 150.0 if kernel == "cpu-haswell" else 100.0)
    assert run(machine).settings.kernel == "cpu-haswell"


def test_what_comes_after_a_hopeless_kernel_is_not_looked_at():
    machine = Machine(
        prompt=lambda kernel, *_: {"cpu-zen4": 200.0, "cpu-haswell": 60.0, "cpu-x64": 2.0}[kernel],
        generation=lambda kernel, *_: {"cpu-zen4": 20.0, "cpu-haswell": 18.0, "cpu-x64": 2.0}[kernel],
    )
    found = run(machine)
    assert found.settings.kernel == "cpu-zen4" and machine.opened == ["cpu-zen4", "cpu-haswell"]
    assert run(machine, effort="full").settings.kernel == "cpu-zen4" and "cpu-x64" in machine.opened


def test_threads_of_prompt_and_generation_are_found_apart():
    machine = Machine(
        prompt=lambda kernel, repack, threads, *_: 30.0 * threads,
        generation=lambda kernel, repack, threads, *_: {2: 15.0, 4: 20.0, 8: 12.0}[threads],
    )
    settings = run(machine).settings
    assert (settings.threads, settings.threads_batch) == (4, 8)


@pytest.mark.parametrize("quiet,expected", [(20.0, 7), (15.0, 8)])
def test_a_busy_neighbour_is_thought_of_where_it_costs_nothing(quiet, expected):
    def generation(kernel, repack, threads, flash, busy):
        if busy:
            return {8: 5.0, 7: 18.0}[threads]
        return {8: 20.5, 7: quiet}.get(threads, 10.0)

    found = run(Machine(generation=generation), settled=Settled(threads=8), effort="full")
    assert found.settings.threads == expected
    assert any(
        "beside a busy neighbour 8 threads generate 5.0 tokens/s, 7 threads 18.0" in note for note in found.notes
    )


def test_flash_attention_is_turned_off_where_it_is_slower():
    machine = Machine(
        prompt=lambda kernel, repack, threads, flash, batch: 400.0 if flash else 600.0,
        generation=lambda kernel, repack, threads, flash, busy: 40.0 if flash else 60.0,
    )
    assert run(machine).settings.flash is False
    assert run(Machine(prompt=lambda *_: 400.0)).settings.flash is None


def test_batches_are_compared_with_time_only():
    machine = Machine(prompt=lambda kernel, repack, threads, flash, batch: 4000.0 if batch == 1024 else 3000.0)
    assert run(machine, effort="full").settings.batch == 1024
    assert run(machine).settings.batch is None
    settled = Settled(threads=4, batch_settled=True)
    assert run(machine, settled=settled, effort="full").settings.batch is None


def test_what_is_settled_is_not_measured():
    settled = Settled(3, threads_settled=True, threads_batch=5, repack=False, flash=True, batch_settled=True)
    machine = Machine(prompt=lambda kernel, repack, *_: 200.0 if repack else 100.0)
    found = run(machine, settled=settled)
    assert found.settings == Settings("cpu-zen4", 3, 5)
    assert all(not trial.settings.repack and trial.settings.flash is None for trial in found.trials)


@pytest.mark.parametrize("rate", [0.2, 2.0, 20.0, 2000.0])
@pytest.mark.parametrize("effort,seconds", [("quick", QUICK_SECONDS), ("full", FULL_SECONDS)])
def test_the_time_is_kept_on_slow_machines_too(rate, effort, seconds):
    machine = Machine(prompt=lambda *_: rate * 5, generation=lambda *_: rate, repack_seconds=20.0)
    found = run(machine, effort=effort)
    assert machine.now <= seconds + 0.5 and found.settings.kernel == "cpu-zen4"
    assert machine.left == 0 and machine.asked[-1] == ("closed",)


def test_a_kernel_that_crashes_is_named_and_the_next_one_measured():
    found = run(Machine(crashes={"cpu-zen4": "prompt"}))
    assert found.settings.kernel == "cpu-haswell"
    assert found.crashed == (("cpu-zen4", "cpu-zen4 was ended by SIGILL at 'prompt'"),)
    order = tuned(choices("zen4", "haswell"), Settled(4), found).choices
    assert [choice.name for choice in order] == ["cpu-haswell"]


def test_repacking_that_crashes_is_no_crash_of_the_kernel():
    machine = Machine()
    crash = machine.open

    def open_and_crash(choice):
        bench = crash(choice)
        load = bench.load

        def loading(repack):
            if repack and choice.name == "cpu-zen4":
                raise NotMeasured("cpu-zen4 was ended by SIGSEGV at 'load'", crashed=True)
            return load(repack)

        bench.load = loading
        return bench

    machine.open = open_and_crash
    found = run(machine)
    assert (found.settings.kernel, found.settings.repack, found.crashed) == ("cpu-zen4", False, ())
    assert "not measured: cpu-zen4 was ended by SIGSEGV at 'load'" in found.notes and machine.left == 0


def test_nothing_can_be_measured():
    found = run(Machine(crashes={"cpu-zen4": "load", "cpu-haswell": "load", "cpu-x64": "load"}))
    assert found.settings == Settings("cpu-zen4", 4, 4) and not found.trials and len(found.crashed) == 3
    order = tuned(choices("zen4", "haswell", "x64"), Settled(4), found).choices
    assert [choice.name for choice in order] == ["cpu-zen4", "cpu-haswell", "cpu-x64"]


def test_no_slice_no_measurement():
    machine = Machine()

    def refuse(*_):
        raise NotMeasured("the model has no layers")

    machine.slice = refuse
    found = run(machine)
    assert found.notes == ("not measured: the model has no layers",) and not found.lasting
    assert found.settings == untuned(choices("zen4"), Settled(4)).settings


def test_the_slice_is_larger_than_the_cache_and_small_in_the_memory():
    machine = Machine()
    run(machine)
    assert ("slice", 128) in machine.asked
    run(machine, facts=replace(FACTS, caches={"L3": 128 << 20}))
    assert ("slice", 512) in machine.asked
    run(machine, facts=replace(FACTS, memory_available=512 << 20))
    assert ("slice", 64) in machine.asked


def test_what_was_chosen_is_said():
    tuning = replace(
        untuned(choices("zen4"), Settled(4)),
        trials=(Trial("", Settings("cpu-zen4", 4, 4), 1, 1),),
        settings=Settings("cpu-zen4", 4, 8, True, False, 1024),
    )
    found = tuned(choices("zen4", "x64"), Settled(4), tuning)
    words = "weights repacked, 4 threads (8 to read), no flash attention, batches of 1024"
    assert found.choices[0].reason == f"ZEN4; measured here: {words}"
    assert found.settings(found.choices[1]) == Settings("cpu-x64", 4, 4)


def test_where_nothing_was_measured_no_kernel_is_left_out():
    tuning = replace(untuned(choices("zen4"), Settled(4)), crashed=(("cpu-zen4", "it was ended by SIGABRT"),))
    found = tuned(choices("zen4", "haswell"), Settled(4), tuning).choices
    assert [(choice.name, choice.reason) for choice in found] == [
        ("cpu-zen4", "as ranked"),
        ("cpu-haswell", "as ranked"),
    ]


def test_a_plan_for_a_kernel_that_is_gone_says_nothing_of_another():
    trials = (Trial("", Settings("cpu-zen4", 4, 4), 1, 1),)
    tuning = replace(untuned(choices("zen4"), Settled(4)), trials=trials)
    assert tuned(choices("haswell"), Settled(4), tuning).choices[0].reason == "as ranked"


def test_what_there_was_no_time_for_is_measured_in_the_next_launch():
    assert run(Machine()).lasting
    assert not run(Machine(prompt=lambda *_: 1.0, generation=lambda *_: 0.2)).lasting
    assert not run(Machine(crashes={"cpu-haswell": "prompt"})).lasting


def test_a_part_of_the_model_that_cannot_be_loaded_is_tried_once():
    machine = Machine()

    def refuse(choice):
        machine.opened.append(choice.name)
        raise NotMeasured("wrong shape")

    machine.open = refuse
    assert run(machine).notes == ("not measured: wrong shape",) and machine.opened == ["cpu-zen4"]
