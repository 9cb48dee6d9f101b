"""Rounds of several runners; their benches are played."""

from dataclasses import dataclass, field, replace

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine.race import Course, Race, Runner, bandwidth
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Settings
from mkllm.runtime.hardware.tune import NotMeasured

COURSE = Course(prompt=100, tokens=10, rounds=5, depth=0, batch=512)


def runner(name, repack=False, **settings):
    return Runner(Choice(Backend(name, f"{name}.so"), "", ""), Settings(name, 4, 8, repack, **settings))


@dataclass
class Laboratory:
    """Writes down what is asked; `fails` are kernels with the word at which they end."""

    fails: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    open: int = 0
    most: int = 0

    def open_whole(self, choice):
        self.open += 1
        self.most = max(self.most, self.open)
        return Bench(self, choice.name)


@dataclass
class Bench:
    laboratory: Laboratory
    kernel: str
    number: int = 3
    limit: float | None = None

    def _asked(self, *words):
        self.laboratory.asked.append((self.kernel, *words))
        if self.laboratory.fails.get(self.kernel) == words[0]:
            raise NotMeasured(f"{self.kernel} was ended by SIGILL")

    def load(self, repack):
        self._asked("load", repack)
        return 0.5

    def context(self, tokens, batch, flash):
        self._asked("context", tokens, batch, flash)

    def threads(self, number):
        self._asked("threads", number)

    def times(self, number):
        self._asked("times", number)
        self.number = number

    def fill(self, tokens):
        self._asked("fill", tokens)

    def prompt(self, tokens, milliseconds):
        self._asked("prompt", tokens)
        return [tokens / 50] * self.number

    def generate(self, milliseconds):
        self._asked("generate")
        return [0.25] * self.number

    def memory(self, megabytes, milliseconds):
        self._asked("memory", megabytes)
        return [1.0, 2.0]

    def close(self):
        self.laboratory.open -= 1


def run(laboratory, runners, course=COURSE):
    told = []
    race = Race(laboratory, course, runners, told.append)
    results = race.run()
    assert laboratory.open == 0
    return results, told, race.steps


def test_each_round_reads_and_generates_with_its_threads():
    laboratory = Laboratory()
    (result,), told, steps = run(laboratory, [runner("a", repack=True, flash=False, batch=256)])
    assert result.prompts == (50.0,) * 5 and result.generations == (4.0,) * 5 and result.failure is None
    assert [words[1:] for words in laboratory.asked[:13]] == [
        *(("load", True), ("context", 100, 256, False), ("threads", 8), ("times", 1), ("prompt", 16)),
        *(("threads", 8), ("times", 1), ("prompt", 100), ("threads", 4), ("times", 10), ("generate",)),
        *(("threads", 8), ("times", 1)),
    ]
    title = "round 1, a, weights repacked"
    assert len(told) == steps == 11 and told[:2] == [f"{title}: loading", f"{title}: reading"]


def test_one_runner_is_loaded_once_and_several_in_each_round_one_at_a_time():
    (result,), _, _ = run(laboratory := Laboratory(), [runner("a")])
    assert len(result.loads) == 1 and laboratory.most == 1
    results, told, steps = run(laboratory := Laboratory(), [runner("a"), runner("b"), runner("b", repack=True)])
    assert [len(result.loads) for result in results] == [5, 5, 5] and laboratory.most == 1
    assert len(told) == steps == 45


def test_every_other_round_goes_backwards():
    run(laboratory := Laboratory(), [runner("a"), runner("b")])
    assert [words[0] for words in laboratory.asked if words[1] == "load"] == list("abbaabbaab")


@pytest.mark.parametrize("word", ["load", "prompt", "generate"])
def test_one_that_fails_is_not_run_again_and_the_others_are(word):
    (bad, good), _, _ = run(laboratory := Laboratory({"a": word}), [runner("a"), runner("b")])
    assert bad.failure == "a was ended by SIGILL" and bad.generations == () and len(good.generations) == 5
    assert len([words for words in laboratory.asked if words[:2] == ("a", "load")]) == 1


def test_the_depth_is_read_once_or_again_where_it_cannot_be_kept():
    run(laboratory := Laboratory(), [runner("a")], replace(COURSE, depth=300))
    assert ("a", "context", 400, 512, True) in laboratory.asked and laboratory.asked.count(("a", "fill", 300)) == 1
    run(laboratory := Laboratory(), [runner("a")], replace(COURSE, depth=300, refill=True))
    assert laboratory.asked.count(("a", "fill", 300)) == 11


def test_the_memory_is_read_with_the_threads_of_generation():
    laboratory = Laboratory()
    assert bandwidth(laboratory, runner("a"), 100) == (100 << 20, 50 << 20)
    assert ("a", "threads", 4) in laboratory.asked and laboratory.open == 0
