"""`doctor` from the outside, on a machine that is played and with engines that are fake but real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mkllm.runtime.commands.examination import compared
from mkllm.runtime.commands.findings import sections
from mkllm.runtime.commands.paragraphs import page
from mkllm.runtime.hardware.settings import Settings, Trial, Tuning

GOLDEN = Path(__file__).with_name("doctor.txt")


@pytest.fixture
def machine(played, tmp_path, monkeypatch):
    """Everything about it is played, and its cache is this test's."""
    home = tmp_path / "cache" / "_MEI0123456789abcd"
    home.mkdir(parents=True)
    monkeypatch.setenv("MKLLM_HOME", str(home))
    monkeypatch.setenv("MKLLM_HOME_KIND", "cache")
    facts = {
        **json.loads(played.read_text()),
        "cpu_model": "a processor",
        "cpus_online": 16,
        "numa_nodes": 1,
        "caches": {"L1": 32 << 10, "L2": 512 << 10, "L3": 32 << 20},
        "huge_pages": "never",
        "memory_total": 16 << 30,
        "memory_limit": None,
        "fast_cores": 2,
    }

    def play(**changes):
        played.write_text(json.dumps({**facts, **changes}))

    play()
    return play


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_whole_page_for_one_machine(fake_artifact, run, machine, misbehaviour):
    """The file doctor.txt beside this one; `MKLLM_GOLDEN=1` writes it anew."""
    misbehaviour(tokens=1000.0)
    text = run(fake_artifact, "doctor", "--no-tune").stdout
    text = re.sub(r"  file .*?(?=  model )|  home .*?(?=\n\nchosen)", "", text, flags=re.DOTALL)  # of this run alone
    if "MKLLM_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_it_measures_once_and_remembers(fake_artifact, run, machine, misbehaviour, monkeypatch):
    journal = misbehaviour(tokens=1000.0)
    first = told(run(fake_artifact, "doctor", "--json"))["tuning"]
    assert first["trials"] and "measure" in journal.read_text()
    journal.unlink()
    second = told(run(fake_artifact, "doctor", "--json"))["tuning"]
    if first["lasting"]:
        assert (first["remembered"], second["remembered"]) == (False, True) and not journal.exists()
        assert second["measured_at"] == first["measured_at"] and second["trials"] == first["trials"]
        found = told(run(fake_artifact, "doctor", "--json", "--tune", "full"))["tuning"]
        assert not found["remembered"] and "measure" in journal.read_text()


def test_every_trial_is_told_with_how_much_slower_it_is(fake_artifact, run, machine, misbehaviour):
    misbehaviour(tokens=1000.0)
    found = told(run(fake_artifact, "doctor", "--json"))
    assert found["chosen"]["repack"] and found["advice"][0]["topic"] == "affinity"
    kernels = {trial["what"]: trial for trial in found["tuning"]["trials"] if trial["step"] == "kernel"}
    assert kernels["cpu-haswell, weights repacked"]["chosen"]
    assert kernels["cpu-haswell, weights mapped"]["slower"] == pytest.approx(1.0)
    shown = run(fake_artifact, "doctor").stdout
    assert "cpu-haswell, weights mapped: prompt 333, generation 333 tokens/s; 100 % more time a turn" in " ".join(
        shown.split()
    )
    assert "huge ones are off ('never')" in " ".join(shown.split())


def test_no_tune_starts_nothing(fake_artifact, run, machine, misbehaviour):
    journal = misbehaviour()
    found = told(run(fake_artifact, "doctor", "--json", "--no-tune"))
    assert found["tuning"] is None and not journal.exists()
    assert found["chosen"]["kernel"] == "cpu-haswell" and found["rejected"][0]["name"] == "cpu-zen4"


def test_a_kernel_that_crashes_is_told_and_a_full_measurement_tries_it_again(fake_artifact, run, machine, misbehaviour):
    misbehaviour(tokens=1000.0, measure={"libggml-cpu-haswell.so load": "SIGILL"})
    told(run(fake_artifact, "doctor", "--json"))
    found = told(run(fake_artifact, "doctor", "--json", "--no-tune"))
    assert any(
        rejected["name"] == "cpu-haswell" and "it crashed here" in rejected["reason"] for rejected in found["rejected"]
    )
    assert [advice["topic"] for advice in found["advice"] if advice["topic"] == "crash"] == ["crash"]
    misbehaviour(tokens=1000.0)
    found = told(run(fake_artifact, "doctor", "--json", "--tune", "full"))
    assert found["chosen"]["kernel"] == "cpu-haswell"
    assert all(rejected["name"] == "cpu-zen4" for rejected in found["rejected"])


def test_a_model_that_does_not_fit_is_told_and_not_measured(build_fake, run, machine, misbehaviour, tmp_path):
    journal = misbehaviour()
    machine(memory_total=1 << 20, memory_available=1 << 20)
    path = build_fake(tmp_path / "large")
    found = told(run(path, "doctor", "--json"))
    assert "this machine has" in found["fit"]["error"] and found["tuning"] is None and not journal.exists()
    assert "the model needs" in run(path, "doctor").stdout


def test_a_machine_that_runs_no_kernel_is_told_so(fake_artifact, run, machine, misbehaviour):
    misbehaviour()
    machine(machine="aarch64", cpu_flags=[])
    found = told(run(fake_artifact, "doctor", "--json"))
    assert found["chosen"] is None and len(found["rejected"]) == 4
    assert "none runs on this machine" in run(fake_artifact, "doctor").stdout


@pytest.mark.parametrize("kind", ["temporary", "memory"])
def test_a_home_that_does_not_last_remembers_nothing(fake_artifact, run, machine, misbehaviour, kind, tmp_path):
    misbehaviour(tokens=1000.0)
    home = tmp_path / "passing"
    home.mkdir()
    env = {"MKLLM_HOME": str(home), "MKLLM_HOME_KIND": kind}
    found = told(run(fake_artifact, "doctor", "--json", env=env))
    assert found["home"]["kind"] == kind and found["tuning"]["trials"] and found["tuning"]["measured_at"] is None
    assert found["advice"][-1]["topic"] == "home" and not home.exists()


def test_names_of_strangers_do_not_steer_the_terminal(build_fake, run, machine, misbehaviour, tmp_path):
    misbehaviour()
    path = build_fake(tmp_path / "strange", model={"quantization": "\x1b[2J"})
    machine(cpu_model="\x1b]0;x\x07")
    shown = run(path, "doctor", "--no-tune").stdout
    assert "\x1b" not in shown and "\x07" not in shown and "\ufffd[2J" in shown


def test_wrong_options_are_one_sentence(fake_artifact, run):
    for words in (["--tune", "much"], ["--kernel", "x"], ["model"]):
        done = run(fake_artifact, "doctor", *words)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_interrupted_it_leaves_nothing(fake_artifact, machine, misbehaviour, tmp_path):
    journal = misbehaviour(measure={"libggml-cpu-haswell.so load": "hang"})
    process = subprocess.Popen(
        [sys.executable, "-m", "mkllm.runtime", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "MKLLM_ARTIFACT": str(fake_artifact)},
    )
    end = time.monotonic() + 20
    while not (journal.exists() and "measure" in journal.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert children and not [child for child in children if child.is_running()]


SETTINGS = Settings("cpu-a", 4, 2, repack=True, flash=False)
TUNING = Tuning(
    SETTINGS,
    (
        Trial("a, mapped", replace(SETTINGS, repack=False), 100, 10),
        Trial("a, repacked", SETTINGS, 200, 10),
        Trial("2 threads", replace(SETTINGS, threads=2), 0, 5, "generating"),
        Trial("4 threads", SETTINGS, 0, 10, "generating"),
        Trial("8 to read", replace(SETTINGS, threads_batch=8), 404, 0, "reading"),
        Trial("2 to read", SETTINGS, 400, 0, "reading"),
        Trial("with", replace(SETTINGS, flash=True), 100, 5, "attention"),
        Trial("without", SETTINGS, 100, 10, "attention"),
    ),
)


def test_trials_are_compared_with_the_chosen_one_of_their_step():
    found = compared(TUNING)
    assert [one.chosen for one in found] == [False, True, False, True, False, True, False, True]
    assert [round(one.slower, 3) for one in found] == [0.091, 0, 1.0, 0, -0.01, 0, 0.833, 0]


def test_what_was_slower_is_told_in_words(fake_artifact, monkeypatch):
    from types import SimpleNamespace

    seen = SimpleNamespace(tuning=TUNING, ranking=SimpleNamespace(rejections=(), choices=()), settings=SETTINGS)
    shown = "\n".join(page([(title, lines) for title, lines in sections(seen) if title == "rejected"], 110))
    assert "a, mapped: prompt 100, generation 10.0 tokens/s; 9 % more time a turn" in shown
    assert "2 threads: generation 5.00 tokens/s; 100 % more time" in shown
    assert "8 to read: prompt 404 tokens/s; 1 % less time, which is too little to count" in shown


def test_the_object_can_be_written_as_json(fake_artifact, run, machine, misbehaviour):
    misbehaviour()
    found = told(run(fake_artifact, "doctor", "--json", "--no-tune"))
    assert set(found) == {
        *("file", "model", "home", "machine", "features", "fit", "settled", "chosen", "kernels", "rejected"),
        *("tuning", "advice"),
    }
