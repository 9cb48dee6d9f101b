"""A launch that measures before it starts its engine, and one that remembers."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.engine.supervisor import MEASURING
from mkllm.runtime.errors import EngineUnusable
from mkllm.runtime.home import Home
from mkllm.runtime.session import start_session

SECONDS = 20.0
USUAL = EngineOptions()
OFF = EngineOptions(tune="off")


@pytest.fixture
def cache(fake_artifact, played, tmp_path, monkeypatch):
    """The fake artifact is started from a cache, and is large enough to be measured."""
    home = tmp_path / "cache" / "_MEI0123456789abcd"
    home.mkdir(parents=True)
    monkeypatch.setenv("MKLLM_ARTIFACT", str(fake_artifact))
    monkeypatch.setattr("mkllm.runtime.session.open_home", lambda kit: Home(home, "cache"))
    monkeypatch.setattr("mkllm.runtime.session.SMALL_MODEL", 0)
    monkeypatch.setattr("mkllm.runtime.hardware.load.Load.is_busy", lambda self: False)
    return home.parent / "plans"


def launched(options=USUAL, kernel=None):
    """The snapshot when it is ready, and the engine's arguments."""
    with start_session(options, kernel, Logging()) as session:
        ready = session.engine.wait_ready(SECONDS)
        command = Path(f"/proc/{ready.pid}/cmdline").read_text().split("\0")
        return ready, command


def measured(journal):
    return [line.split()[2] for line in journal.read_text().splitlines() if line.split()[1] == "measure"]


def test_the_first_launch_measures_and_the_second_remembers(cache, misbehaviour):
    journal = misbehaviour(tokens=1000.0)
    ready, command = launched()
    assert ready.reason.startswith("AVX2; measured here: weights repacked, ") and "--repack" in command
    assert measured(journal)[0] == "libggml-cpu-haswell.so"
    journal.unlink()
    again, command = launched()
    assert (again.kernel, again.reason) == (ready.kernel, ready.reason) and "--repack" in command
    assert measured(journal) == []


def test_what_has_computed_the_model_does_not_warm_up(cache, misbehaviour, monkeypatch):
    misbehaviour(tokens=1000.0)
    assert "--no-warmup" in launched(replace(USUAL, brief=True))[1]
    assert "--no-warmup" not in launched(OFF)[1]  # it computes, though not as was measured
    assert "--no-warmup" not in launched()[1]  # it was measured, which is not the same
    assert "--no-warmup" in launched()[1]
    assert "--no-warmup" not in launched(OFF)[1]
    monkeypatch.setattr("mkllm.runtime.hardware.plans.release", lambda: "another system")
    ready, command = launched()
    assert ready.reason.startswith("AVX2; measured here") and "--no-warmup" not in command
    assert "--no-warmup" in launched()[1]


def test_what_crashed_while_it_served_warms_up_again(cache, misbehaviour):
    misbehaviour(tokens=1000.0)
    launched()
    for number, again in ((signal.SIGTERM, False), (signal.SIGSEGV, True)):
        with start_session(USUAL, None, Logging()) as session:
            before = session.engine.wait_ready(SECONDS)
            assert "--no-warmup" in Path(f"/proc/{before.pid}/cmdline").read_text()
            os.kill(before.pid, number)
            session.engine.wait_followed(before, SECONDS)
        if again:
            ready, command = launched()
            assert ready.kernel == "cpu-haswell" and "--no-warmup" not in command


def test_no_tune_and_small_models_start_as_ranked(cache, misbehaviour, monkeypatch):
    journal = misbehaviour(tokens=1000.0)
    ready, command = launched(OFF)
    assert ready.reason == "AVX2; best of 4" and "--no-repack" in command
    monkeypatch.setattr("mkllm.runtime.session.SMALL_MODEL", 1 << 20)
    assert launched()[0].reason == "AVX2; best of 4"
    assert measured(journal) == [] and not cache.exists()


def test_a_full_tune_measures_anew(cache, misbehaviour):
    journal = misbehaviour(tokens=1000.0)
    launched()
    before = len(measured(journal))
    launched(EngineOptions(tune="full"))
    assert len(measured(journal)) > before
    assert launched()[0].reason.startswith("AVX2; measured here")


def test_while_it_measures_it_says_so_and_can_be_stopped(cache, misbehaviour):
    misbehaviour(measure={"libggml-cpu-haswell.so load": "hang"})
    begun = time.monotonic()
    with start_session(EngineOptions(), None, Logging()) as session:
        now = session.engine.snapshot()
        assert (now.phase, now.kernel, now.reason, now.pid) == ("loading", "cpu-haswell", MEASURING, None)
    assert time.monotonic() - begun < 3 and not cache.exists()
    assert session.engine.snapshot().phase == "stopped"


def test_a_kernel_that_crashes_when_measured_is_not_started_now_nor_later(cache, misbehaviour):
    journal = misbehaviour(tokens=1000.0, measure={"libggml-cpu-haswell.so load": "SIGILL"})
    assert launched()[0].kernel == "cpu-sse42"
    assert launched()[0].kernel == "cpu-sse42"
    with start_session(EngineOptions(), None, Logging()) as session:
        rejected = {rejection.name: rejection.reason for rejection in session.ranking.rejections}
    assert "cpu-haswell was ended by SIGILL" in rejected["cpu-haswell"]
    assert rejected["cpu-haswell"].startswith("skipped, it crashed here on ")
    assert "libggml-cpu-haswell.so" not in [
        line.split()[2] for line in journal.read_text().splitlines() if "start" in line
    ]
    assert launched(OFF, "cpu-haswell")[0].kernel == "cpu-haswell"


def test_a_kernel_that_crashes_while_it_starts_is_remembered(cache, misbehaviour):
    misbehaviour(start={"libggml-cpu-haswell.so": "SIGSEGV"})
    ready, _ = launched(OFF)
    assert (ready.kernel, ready.restarts) == ("cpu-sse42", 1)
    misbehaviour(start={"libggml-cpu-haswell.so": "SIGSEGV"})
    ready, _ = launched(OFF)
    assert (ready.kernel, ready.restarts) == ("cpu-sse42", 0)


def test_a_crash_that_no_kernel_survives_is_no_kernels_fault(cache, misbehaviour):
    misbehaviour(start={"*": "SIGSEGV"})
    with pytest.raises(EngineUnusable, match="no other kernel is left"):
        launched(OFF)
    misbehaviour()
    assert launched(OFF)[0].kernel == "cpu-haswell"


def test_when_everything_has_crashed_everything_is_tried_again(cache, misbehaviour):
    misbehaviour(start={name: "SIGSEGV" for name in ("libggml-cpu-haswell.so", "libggml-cpu-sse42.so")})
    assert launched(OFF)[0].kernel == "cpu-x64"
    misbehaviour(start={"libggml-cpu-x64.so": "SIGSEGV"})
    assert launched(OFF, "cpu-haswell")[0].kernel == "cpu-haswell"


def test_a_defect_of_the_measuring_does_not_keep_the_model_from_serving(cache, misbehaviour, monkeypatch):
    def broken(self):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("mkllm.runtime.engine.tuner.Tuner.run", broken)
    ready, _ = launched()
    assert (ready.phase, ready.reason) == ("ready", "AVX2; best of 4")
    assert ready.last_failure == "nothing was measured (ZeroDivisionError: broken)"


def test_a_plan_whose_kernel_has_crashed_since_is_made_anew(cache, misbehaviour):
    misbehaviour(tokens=1000.0)
    launched()
    misbehaviour(tokens=1000.0, start={"libggml-cpu-haswell.so": "SIGSEGV"})
    assert launched()[0].kernel == "cpu-sse42"
    journal = misbehaviour(tokens=1000.0)
    journal.unlink()
    again = launched()[0]
    assert (again.kernel, again.restarts) == ("cpu-sse42", 0) and again.reason.startswith("SSE 4.2; measured here")
    assert measured(journal)[0] == "libggml-cpu-sse42.so"


def test_too_little_memory_for_a_second_copy_is_not_repacked(fake_artifact):
    from mkllm.runtime.hardware.probe import Facts
    from mkllm.runtime.session import fit_model, settle

    facts = Facts(memory_total=1 << 30, memory_available=1 << 30)
    with open_artifact(fake_artifact) as artifact:
        fitted = fit_model(artifact, facts, EngineOptions())
        assert settle(artifact, facts, EngineOptions(), fitted).repack is None
        tight = replace(fitted, caches=1 << 30)
        assert settle(artifact, facts, EngineOptions(), tight).repack is False
        assert settle(artifact, facts, EngineOptions(extra=["--repack"]), tight).repack is True
