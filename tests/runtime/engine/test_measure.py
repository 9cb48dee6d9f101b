"""The processes that measure; the engines are fake but real processes."""

import threading
import time

import psutil
import pytest

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.measure import Laboratory
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.engine.placed import Weights
from mkllm.runtime.hardware.probe import probe
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.hardware.tune import NotMeasured
from mkllm.runtime.home import Home

HASWELL = "libggml-cpu-haswell.so"


@pytest.fixture
def choices(fake_artifact, played):
    with open_artifact(fake_artifact) as artifact:
        return rank(probe(), artifact.manifest.backends).choices


@pytest.fixture
def laboratory(fake_artifact, tmp_path):
    with open_artifact(fake_artifact) as artifact:
        member = artifact.member(WEIGHTS)
        weights = Weights(artifact.fileno(), member.offset, member.size)
        one = Laboratory(Modules(artifact, Home(tmp_path, "development")), weights, None)
        yield one
        one.close()
        assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_a_slice_is_made_and_run(laboratory, choices, misbehaviour):
    journal = misbehaviour(tokens=4.0)
    assert laboratory.slice(choices[0], 128, 5.0) == pytest.approx(8 / 24)
    bench = laboratory.open(choices[0])
    assert bench.load(True) == 0.01 and bench.context(1024, 512, True) == 0.01
    bench.threads(3)
    bench.neighbours(1)
    assert bench.fill(7) == 0.01
    assert bench.prompt(16, 50) == [2.0] * 3 and bench.generate(60) == [0.125] * 3
    bench.times(1)
    assert bench.prompt(16, 0) == [2.0] and bench.generate(0) == [0.125]
    told = [line.split(" ", 1)[1] for line in journal.read_text().splitlines()]
    assert told == [
        f"measure {HASWELL}",
        *("load 1", "context 1024 512 1", "threads 3", "neighbours 1", "fill 7", "prompt 16 50", "generate 60"),
        *("times 1", "prompt 16 0", "generate 0"),
    ]


def test_the_whole_model_needs_no_slice(laboratory, choices, misbehaviour):
    misbehaviour(tokens=4.0)
    bench = laboratory.open_whole(choices[0])
    assert bench.load(False) == 0.01 and bench.generate(60) == [0.25] * 3 and bench.memory(64, 50) == [0.01] * 3


def test_a_crash_is_told_with_how(laboratory, choices, misbehaviour):
    misbehaviour(measure={f"{HASWELL} prompt": "SIGILL"})
    laboratory.slice(choices[0], 128, 5.0)
    bench = laboratory.open(choices[0])
    bench.load(False)
    with pytest.raises(
        NotMeasured, match="cpu-haswell was ended by SIGILL: 'error: told to SIGILL' at 'prompt'"
    ) as told:
        bench.prompt(16, 50)
    assert told.value.crashed
    with pytest.raises(NotMeasured):
        bench.generate(60)
    bench.close()


def test_an_end_without_a_signal_is_no_crash(laboratory, choices, misbehaviour):
    misbehaviour(measure={f"{HASWELL} load": "exit 3"})
    laboratory.slice(choices[0], 128, 5.0)
    with pytest.raises(NotMeasured, match="ended with status 3") as told:
        laboratory.open(choices[0]).load(False)
    assert not told.value.crashed


def test_what_the_engine_cannot_do_is_told_in_its_words(laboratory, choices, misbehaviour):
    misbehaviour(deny="context")
    laboratory.slice(choices[0], 128, 5.0)
    bench = laboratory.open(choices[0])
    with pytest.raises(NotMeasured, match="cpu-haswell: told to"):
        bench.context(1, 1, True)
    assert bench.load(False) == 0.01


def test_what_takes_too_long_is_not_waited_for(laboratory, choices, misbehaviour):
    misbehaviour(measure={f"{HASWELL} prompt": "hang", "slice": "hang"})
    with pytest.raises(NotMeasured, match="reading a part of the model took more than 0.3 s"):
        laboratory.slice(choices[0], 128, 0.3)
    bench = laboratory.open(choices[0])
    bench.limit = time.monotonic() + 0.3
    with pytest.raises(NotMeasured, match="cpu-haswell did not answer 'prompt' in time"):
        bench.prompt(16, 50)


def test_no_slice_can_be_made(laboratory, choices, misbehaviour):
    misbehaviour(measure={"slice": "exit 1"})
    with pytest.raises(NotMeasured, match=r"no part of the model could be made \(ended with status 1: 'error: told to"):
        laboratory.slice(choices[0], 128, 5.0)


def test_it_is_stopped_from_outside(laboratory, choices, misbehaviour):
    misbehaviour(measure={f"{HASWELL} prompt": "hang"})
    laboratory.slice(choices[0], 128, 5.0)
    bench = laboratory.open(choices[0])
    threading.Timer(0.2, laboratory.stop).start()
    with pytest.raises(NotMeasured, match="SIGKILL"):
        bench.prompt(16, 50)
    with pytest.raises(NotMeasured, match="it was stopped"):
        laboratory.open(choices[0])


def test_the_process_ends_with_this_program(laboratory, choices, misbehaviour):
    journal = misbehaviour()
    laboratory.slice(choices[0], 128, 5.0)
    bench = laboratory.open(choices[0])
    bench.load(False)
    bench._process.lifeline.close()
    bench._process.wait(5)
    assert "lifeline" in journal.read_text()
