"""`doctor` and `bench` as a user runs them: with the real kit and the demo model, from all homes, and from mkllm."""

import csv
import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
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


def test_bench_measures_prompt_generation_load_and_memory(demo: Path) -> None:
    found = json.loads(run(demo, "bench", "--json", "--prompt-tokens", "64", "--tokens", "16", "--depth", "32").stdout)
    (only,) = found["results"]
    for what in ("prompt", "generation"):
        assert only[what]["count"] == 5 and 0 < only[what]["min"] <= only[what]["median"] <= only[what]["max"]
    assert only["chosen"] and only["load_seconds"]["median"] > 0 and only["failure"] is None
    assert found["memory"]["bytes_per_second"]["median"] > 1e8 and "L3 cache" in found["memory"]["no_share"]
    assert 0 < found["token_weights"] < 3_000_000


def test_bench_compares_all_kernels_and_writes_a_table_and_a_chart(demo: Path, tmp_path: Path) -> None:
    table, plot = tmp_path / "speeds.csv", tmp_path / "speeds.svg"
    few = ["--prompt-tokens", "32", "--tokens", "8"]
    shown = run(demo, "bench", "--all", *few, "--csv", table, "--plot", plot).stdout
    with table.open() as file:
        rows = list(csv.DictReader(file))
    kernels = {row["kernel"] for row in rows}
    assert len(rows) == 2 * len(kernels) and all(float(row["generation_median"]) > 0 for row in rows)
    assert sum(row["chosen"] == "true" for row in rows) == 1 and all(kernel in shown for kernel in kernels)
    texts = {element.text for element in ElementTree.parse(plot).getroot().iter()}
    assert {f"{row['kernel']}, {row['weights']}" for row in rows} <= texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speeds.csv", "speeds.svg"]


def test_bench_from_mkllm(mkllm: Path) -> None:
    words = ["--csv", "-", "--prompt-tokens", "32", "--tokens", "8"]
    lines = run(mkllm, "-q", "bench", "demo", *words).stdout.splitlines()
    assert lines[0].startswith("kernel,") and len(lines) == 2


@pytest.mark.parametrize("words", [["doctor", "--tune", "much"], ["doctor", "--wrong"], ["bench", "--rounds", "2"]])
def test_wrong_options(demo: Path, words: list[str]) -> None:
    assert run(demo, *words, status=2).stderr.count("\n") == 1
