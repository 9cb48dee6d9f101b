"""The engine of one launch over its restarts; the engines are fake but real processes."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.client import Client
from mkllm.runtime.engine.log import Log, Logging
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.engine.placed import Weights
from mkllm.runtime.engine.supervisor import Order, Plan, Supervisor
from mkllm.runtime.errors import EngineDied, EngineUnusable, NotAnArtifact, RequestRefused
from mkllm.runtime.hardware.probe import probe
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.home import Home

SECONDS = 20.0
QUIET = Logging()


@pytest.fixture
def supervisor(fake_artifact, played, tmp_path):
    """`supervisor(*arguments)`: one that is not started yet; ended with the test."""
    made = []
    with open_artifact(fake_artifact) as artifact:

        def make(*arguments, placer=None, logging=QUIET, at_once=None, **plan):
            weights = artifact.member(WEIGHTS)
            plan = Plan(
                order=Order(
                    rank(probe(), artifact.manifest.backends).choices,
                    lambda choice: ("serve", *arguments),
                    lambda choice: at_once and ("serve", *at_once),
                ),
                placer=placer or Modules(artifact, Home(tmp_path, "development")),
                weights=Weights(artifact.fileno(), weights.offset, weights.size),
                log=Log(logging),
                **plan,
            )
            made.append(Supervisor(plan))
            return made[-1]

        yield make
        for one in made:
            one.stop(0.5)


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def starts(journal):
    return [line.split()[2] for line in journal.read_text().splitlines() if line.split()[1] == "start"]


def test_loading_then_ready_then_stopped(supervisor, misbehaviour):
    misbehaviour(load_seconds=0.4)
    seen = []
    one = supervisor()
    one.subscribe(seen.append)
    one.start()
    now = one.wait_ready(SECONDS)
    assert (now.phase, now.kernel, now.reason, now.progress) == ("ready", "cpu-haswell", "AVX2; best of 4", 1.0)
    one.stop()
    assert [s.progress for s in seen] == sorted(s.progress for s in seen) and 0.25 in {s.progress for s in seen}
    assert (seen[0].phase, seen[-1].phase) == ("loading", "stopped")
    assert not psutil.pid_exists(now.pid)


def test_the_answer_needs_the_key(supervisor):
    one = supervisor()
    one.start()
    now = one.wait_ready(SECONDS)
    assert now.address.startswith("\0") and len(now.key) == 48
    with Client(now.address, now.key) as client:
        seen = client.get("/props")
    with Client(now.address, "another") as client, pytest.raises(RequestRefused, match="Invalid API Key"):
        client.post("/completion", {"prompt": "hello"})
    assert seen["environment"]["LLAMA_API_KEY"] == now.key
    assert not [name for name in seen["environment"] if name.startswith("MKLLM_")]


@pytest.mark.parametrize("how", ["SIGILL", "SIGSEGV", "SIGABRT"])
def test_a_kernel_that_crashes_at_the_start_is_left_for_the_next(supervisor, misbehaviour, how):
    journal = misbehaviour(start={"libggml-cpu-haswell.so": how, "libggml-cpu-sse42.so": how})
    one = supervisor()
    one.start()
    now = one.wait_ready(SECONDS)
    assert (now.kernel, now.restarts) == ("cpu-x64", 2)
    assert now.last_failure == f"the engine with cpu-sse42 was ended by {how} while it started: 'error: told to {how}'"
    assert starts(journal) == ["libggml-cpu-haswell.so", "libggml-cpu-sse42.so", "libggml-cpu-x64.so"]


def test_no_kernel_works(supervisor, misbehaviour):
    misbehaviour(start={"*": "SIGILL"})
    one = supervisor()
    one.start()
    with pytest.raises(EngineUnusable, match="cpu-x64 was ended by SIGILL while it started.*no other kernel is left"):
        one.wait_ready(SECONDS)
    assert one.snapshot().phase == "failed" and one.snapshot().error is not None


def test_a_wrong_argument_starts_nothing_twice(supervisor, misbehaviour):
    journal = misbehaviour()
    one = supervisor("--wrong")
    one.start()
    with pytest.raises(EngineUnusable, match="status 1.*invalid argument: --wrong.*no other kernel would help"):
        one.wait_ready(SECONDS)
    assert len(starts(journal)) == 1


def test_a_module_that_cannot_be_loaded_is_left_for_the_next(supervisor, misbehaviour):
    misbehaviour(start={"libggml-cpu-haswell.so": "unloadable"})
    one = supervisor()
    one.start()
    assert one.wait_ready(SECONDS).kernel == "cpu-sse42"


def test_an_error_with_the_kernel_in_place_starts_nothing_twice(supervisor, misbehaviour):
    journal = misbehaviour(start={"*": "exit 1"})
    one = supervisor()
    one.start()
    with pytest.raises(EngineUnusable, match="told to exit 1.*no other kernel would help"):
        one.wait_ready(SECONDS)
    assert len(starts(journal)) == 1


def test_an_address_that_cannot_be_had_is_not_another_programs(supervisor, misbehaviour, tmp_path):
    """Here nobody else can have it: whatever it is, another start would not help."""
    journal = misbehaviour(port_taken=str(tmp_path / "taken"))
    one = supervisor()
    one.start()
    with pytest.raises(EngineUnusable, match="status 1 while it started.*no other kernel would help"):
        one.wait_ready(SECONDS)
    assert len(starts(journal)) == 1


def test_a_kernel_that_hangs_at_the_start_is_left_for_the_next(supervisor, misbehaviour, monkeypatch):
    monkeypatch.setattr("mkllm.runtime.engine.process.HANG_SECONDS", 0.5)
    misbehaviour(start={"libggml-cpu-haswell.so": "hang"})
    one = supervisor()
    one.start()
    now = one.wait_ready(SECONDS)
    assert (now.kernel, now.restarts) == ("cpu-sse42", 1)
    assert now.last_failure.startswith("the engine with cpu-haswell hung for 0 seconds and was ended while it started")


def test_one_that_computes_does_not_hang(supervisor, misbehaviour, monkeypatch):
    monkeypatch.setattr("mkllm.runtime.engine.process.HANG_SECONDS", 0.5)
    misbehaviour(start={"*": "compute 1.5"})
    one = supervisor()
    one.start()
    assert one.wait_ready(SECONDS).restarts == 0


def test_a_log_that_cannot_be_written_does_not_hide_the_end(supervisor, misbehaviour, monkeypatch):
    misbehaviour(start={"libggml-cpu-haswell.so": "SIGSEGV"})
    with suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        one = supervisor(logging=Logging(Path("/dev/full"), verbose=True))
        one.start()
        assert one.wait_ready(SECONDS).kernel == "cpu-sse42"


def test_a_defect_while_watching_is_an_end(supervisor, monkeypatch):
    def broken(self, data):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("mkllm.runtime.engine.process.Engine._take_status", broken)
    one = supervisor()
    one.start()
    with pytest.raises(EngineUnusable, match=r"could not be watched \(ZeroDivisionError: broken\)"):
        one.wait_ready(SECONDS)


def test_too_long_an_argument_is_said_so(supervisor):
    with pytest.raises(EngineUnusable, match="shorten the words after the --, or build the file with a shorter system"):
        supervisor("x" * 200_000).start()


def test_killed_from_outside_comes_back_the_same(supervisor):
    one = supervisor()
    one.start()
    first = one.wait_ready(SECONDS)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: one.snapshot().restarts == 1)
    now = one.wait_ready(SECONDS)
    assert now.kernel == first.kernel and now.pid != first.pid
    assert (now.address, now.key) != (first.address, first.key)
    assert now.last_failure == "the engine with cpu-haswell was ended by SIGKILL while it served"


def test_killed_again_and_again_is_given_up(supervisor):
    one = supervisor()
    one.start()
    with pytest.raises(EngineDied, match="5 times in a row"):
        for _ in range(9):
            now = one.wait_ready(SECONDS)
            os.kill(now.pid, signal.SIGKILL)
            one.wait_followed(now, SECONDS)


def test_an_end_that_nobody_has_noticed_yet_is_waited_for(supervisor):
    one = supervisor()
    one.start()
    now = one.wait_ready(SECONDS)
    with one._changed:  # nothing is noticed while this is held
        os.kill(now.pid, signal.SIGKILL)
        until(lambda: one.snapshot().phase == "loading")
        assert one.snapshot().last_failure is None
        after = one.wait_followed(now, SECONDS)
    assert after.last_failure == "the engine with cpu-haswell was ended by SIGKILL while it served"


def test_stop_while_it_starts(supervisor, misbehaviour):
    misbehaviour(start={"*": "hang"})
    one = supervisor()
    one.start()
    pid = one.snapshot().pid
    with pytest.raises(TimeoutError):
        one.wait_ready(0.2)
    one.stop()
    assert not psutil.pid_exists(pid) and one.snapshot().phase == "stopped"


def test_stop_ends_one_that_does_not_want_to(supervisor, misbehaviour):
    misbehaviour(deny_term=True)
    one = supervisor()
    one.start()
    pid = one.wait_ready(SECONDS).pid
    begin = time.monotonic()
    one.stop(0.3)
    assert not psutil.pid_exists(pid) and time.monotonic() - begin < 5


def test_stop_while_somebody_waits(supervisor, misbehaviour):
    misbehaviour(start={"*": "hang"})
    one = supervisor()
    one.start()
    failures = []

    def wait():
        try:
            one.wait_ready(SECONDS)
        except EngineUnusable as failure:
            failures.append(failure)

    waiting = threading.Thread(target=wait)
    waiting.start()
    one.stop()
    waiting.join(SECONDS)
    assert "was stopped" in str(failures[0])


def test_no_descriptor_is_lost(supervisor):
    before = len(os.listdir("/proc/self/fd"))
    one = supervisor()
    one.start()
    one.wait_ready(SECONDS)
    one.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_unsubscribed_callback_is_not_called(supervisor):
    one, seen = supervisor(), []
    one.subscribe(seen.append)()
    one.start()
    one.wait_ready(SECONDS)
    assert [snapshot.phase for snapshot in seen] == ["loading"]


def test_a_failure_to_place_is_raised_at_once(supervisor):
    class Broken:
        def place(self, choice):
            raise NotAnArtifact("broken")

    with pytest.raises(NotAnArtifact, match="broken"):
        supervisor(placer=Broken()).start()


def test_a_crash_does_not_write_the_engines_memory_to_the_disk(supervisor):
    one = supervisor()
    one.start()
    now = one.wait_ready(SECONDS)
    assert int(Path(f"/proc/{now.pid}/coredump_filter").read_text(), 16) == 0x10
    assert int(Path("/proc/self/coredump_filter").read_text(), 16) != 0x10


def test_the_engine_is_not_in_our_process_group(supervisor):
    one = supervisor()
    one.start()
    assert os.getpgid(one.wait_ready(SECONDS).pid) != os.getpgid(0)


def words_of(snapshot):
    return Path(f"/proc/{snapshot.pid}/cmdline").read_text().split("\0")


@pytest.fixture
def hasty(monkeypatch):
    """An engine that was replaced is ended soon."""
    monkeypatch.setattr("mkllm.runtime.engine.supervisor.KEPT_SECONDS", 0.2)
    monkeypatch.setattr("mkllm.runtime.engine.supervisor.DRAINING_SECONDS", 0.05)


def test_one_serves_at_once_until_the_better_one_is_ready(supervisor, misbehaviour, hasty):
    misbehaviour(load_seconds=0.3)
    seen = []
    one = supervisor("--better", at_once=["--sooner"])
    one.subscribe(seen.append)
    one.start()
    first = one.wait_ready(SECONDS)
    assert "--sooner" in words_of(first) and first.reason == "AVX2; best of 4; mapped until they are"
    until(lambda: one.snapshot().pid != first.pid)
    second = one.snapshot()
    assert "--better" in words_of(second) and (second.phase, second.reason) == ("ready", "AVX2; best of 4")
    assert (second.restarts, second.last_failure) == (0, None)
    assert {snapshot.phase for snapshot in seen[seen.index(first) :]} == {"ready"}
    until(lambda: not psutil.pid_exists(first.pid))


def test_who_is_still_being_answered_is_not_cut(supervisor, misbehaviour, hasty):
    misbehaviour(load_seconds=0.1)
    one = supervisor(at_once=["--sooner"])
    one.start()
    first = one.wait_ready(SECONDS)
    with Client(first.address, first.key) as client:
        pieces = client.stream("/completion", {"prompt": "endless", "stream": True})
        next(iter(pieces))
        until(lambda: one.snapshot().pid != first.pid)
        time.sleep(1)
        assert psutil.pid_exists(first.pid) and next(iter(pieces))
    until(lambda: not psutil.pid_exists(first.pid))


def test_a_better_one_that_fails_changes_nothing(supervisor, misbehaviour):
    misbehaviour(load_seconds=0.1)
    one = supervisor("--wrong", at_once=["--sooner"])
    one.start()
    first = one.wait_ready(SECONDS)
    until(lambda: one.snapshot().last_failure)
    now = one.snapshot()
    assert (now.pid, now.phase, now.restarts) == (first.pid, "ready", 0)
    assert now.reason == "AVX2; best of 4; mapped, since that failed"
    assert "the weights were not repacked: the engine with cpu-haswell ended with status 1" in now.last_failure


def test_a_crash_while_the_better_one_is_made_starts_both_anew(supervisor, misbehaviour):
    misbehaviour(load_seconds=0.5)
    one = supervisor("--better", at_once=["--sooner"])
    one.start()
    first = one.wait_ready(SECONDS)
    os.kill(first.pid, signal.SIGSEGV)
    until(lambda: one.snapshot().restarts == 1)
    second = one.wait_ready(SECONDS)
    assert "--sooner" in words_of(second) and second.kernel == "cpu-sse42"
    until(lambda: one.snapshot().reason == "SSE 4.2; number 2 here" and "--better" in words_of(one.snapshot()))


def test_it_is_proven_when_it_has_warmed_up_in_every_way_that_it_is_started(supervisor, misbehaviour):
    misbehaviour(load_seconds=0.2)
    proven, doubted = [], []
    tell = dict(proven=lambda choice: proven.append(choice.name), doubted=lambda choice: doubted.append(choice.name))
    one = supervisor("--better", at_once=["--sooner"], **tell)
    one.start()
    one.wait_ready(SECONDS)
    assert proven == []
    until(lambda: proven == ["cpu-haswell"])
    cold = supervisor("--no-warmup", **tell)
    cold.start()
    cold.wait_ready(SECONDS)
    failing = supervisor("--wrong", at_once=["--sooner"], **tell)
    failing.start()
    failing.wait_ready(SECONDS)
    until(lambda: doubted == ["cpu-haswell"])
    assert proven == ["cpu-haswell"]


def test_stopped_while_the_better_one_is_made_nothing_is_left(supervisor, misbehaviour):
    misbehaviour(load_seconds=2)
    one = supervisor("--better", at_once=["--sooner"])
    one.start()
    one.wait_ready(SECONDS)
    one.stop()
    assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
