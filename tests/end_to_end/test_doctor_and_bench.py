"""`doctor` as a user runs it: with the real kit and the demo model, from every kind of home, and from mkllm."""

import json
import os
import subprocess
from pathlib import Path

import pytest


def run(*words: str | Path, status: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def test_doctor_says_what_it_found_and_chose(demo: Path) -> None:
    shown = run(demo, "doctor").stdout
    for title in ("found", "chosen", "rejected", "measured", "could be faster"):
        assert f"\n{title}\n" in f"\n{shown}"
    assert "  kernel      cpu-" in shown
    assert all(len(line) <= 110 or " " not in line.strip() for line in shown.splitlines())


def test_doctor_measures_and_remembers(demo: Path, tmp_path: Path) -> None:
    """What is measured beside busy neighbours is measured again, so this may take a few times."""
    place = {"XDG_CACHE_HOME": str(tmp_path), "MKLLM_RUNTIME_DIR": ""}
    for _ in range(5):
        found = json.loads(run(demo, "doctor", "--json", env=place).stdout)
        trials = found["tuning"]["trials"]
        assert any(trial["step"] == "kernel" and trial["prompt"] > 0 < trial["generation"] for trial in trials)
        assert found["tuning"]["crashed"] == []
    assert found["tuning"]["remembered"] and found["home"]["kind"] == "cache"
    assert found["chosen"]["kernel"] == next(trial for trial in trials if trial["chosen"])["settings"]["kernel"]


def test_doctor_without_a_place_that_lasts(demo: Path, tmp_path: Path) -> None:
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "MKLLM_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
    found = json.loads(run(demo, "doctor", "--json", env=nowhere).stdout)
    assert found["home"]["kind"] in ("temporary", "memory") and not found["tuning"]["remembered"]
    assert "home" in [advice["topic"] for advice in found["advice"]]
    assert not Path(found["home"]["path"]).exists() and list(tmp_path.iterdir()) == []


def test_doctor_from_mkllm(mkllm: Path) -> None:
    found = json.loads(run(mkllm, "-q", "doctor", "--json", "--no-tune").stdout)
    assert found["model"]["name"] == "demo" and found["chosen"]["kernel"]


@pytest.mark.parametrize("words", [["doctor", "--tune", "much"], ["doctor", "--wrong"]])
def test_wrong_options(demo: Path, words: list[str]) -> None:
    assert run(demo, *words, status=2).stderr.count("\n") == 1
