"""`bench`: its figures, table, CSV and chart from values, and the command from the outside with fake engines."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.commands.bench import buffer_of, runners_of
from mkllm.runtime.commands.bench_table import lines
from mkllm.runtime.commands.chart import _ticks, chart
from mkllm.runtime.commands.speeds import COLUMNS, Speeds, as_csv, spread
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.race import Course, Result, Runner
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import Settings

GIB = 1 << 30
CHOSEN = Settings("cpu-a", 4, 8, repack=True)
FACTS = Facts(cpu_model="a processor", cpus=8, cores=8, caches={"L3": 32 << 20}, memory_available=16 * GIB)


def result(settings, prompts=(100, 90, 110, 95, 105), generations=(10, 9, 11, 12, 8), failure=None):
    choice = Choice(Backend(settings.kernel, "x.so"), "", "")
    return Result(Runner(choice, settings), tuple(prompts), tuple(generations), (0.5,), failure)


@pytest.fixture
def speeds(fake_artifact):
    with open_artifact(fake_artifact) as artifact:
        manifest = replace(artifact.manifest, model=replace(artifact.manifest.model, token_weights=GIB))
    chosen, mapped = result(CHOSEN), result(replace(CHOSEN, repack=False), generations=[5] * 5)
    dead = result(Settings("cpu-b", 4, 8), (), (), 'it said, "no"')
    memory = spread([20 * GIB, 22 * GIB, 18 * GIB])
    return Speeds(manifest, FACTS, Course(512, 64, 5, 0, 512), CHOSEN, (chosen, mapped, dead), memory, 512, 0.0, False)


def test_medians():
    assert spread([]) is None and spread([3, 1, 2]).median == 2 and spread([4, 1, 2, 3]).median == 2.5
    assert (spread([3, 1, 2]).min, spread([3, 1, 2]).max, spread([3, 1, 2]).count) == (1, 3, 3)


def test_the_share_of_the_bandwidth(speeds):
    assert [speeds.share(one) for one in speeds.results] == [0.5, 0.25, None]


@pytest.mark.parametrize(
    "token_weights,memory,why",
    [
        (0, True, "the model does not say"),
        (64 << 20, True, "the weights are not much larger than the L3 cache"),
        (GIB, False, "the memory could not be measured"),
    ],
)
def test_where_a_share_means_nothing_none_is_told(speeds, token_weights, memory, why):
    manifest = replace(speeds.manifest, model=replace(speeds.manifest.model, token_weights=token_weights))
    told = replace(speeds, manifest=manifest, bandwidth=speeds.bandwidth if memory else None)
    assert told.share(told.results[0]) is None and why in told.why_no_share()
    assert why in " ".join(lines(told, 200))


def test_the_table_for_people(speeds):
    shown = list(lines(speeds, 100))
    assert shown[2:5] == [
        "kernel   weights   threads  prompt   min-max  generation    min-max    load",
        "cpu-a *  repacked      4/8     100  90.0-110        10.0  8.00-12.0  0.50 s",
        "cpu-a    mapped        4/8     100  90.0-110        5.00  5.00-5.00  0.50 s",
    ]
    text = " ".join(shown)
    assert "cpu-b, weights mapped: not measured, it said" in text and "busy machine" not in text
    assert "The memory gives 21.5 GB/s (19.3 GB to 23.6 GB) to 4 threads; generating reaches 50 % of it" in text


def test_a_narrow_terminal_gets_no_spread(speeds):
    shown = list(lines(speeds, 60))
    assert "min-max" not in " ".join(shown) and max(map(len, shown)) <= 60


def test_a_busy_machine_is_told(speeds):
    busy = replace(speeds, busy=True, others=1.25)
    assert "figures of a busy machine: other programs used 1.2 of its 8 CPUs" in " ".join(lines(busy, 200))
    assert "Measured on a busy machine" in chart(busy) and "Measured on a busy machine" not in chart(speeds)


def test_the_table_for_programs(speeds):
    first, second, dead = csv.DictReader(io.StringIO(as_csv(speeds)))
    assert tuple(first) == COLUMNS
    assert (first["kernel"], first["weights"], first["chosen"]) == ("cpu-a", "repacked", "true")
    assert (first["prompt_median"], first["prompt_min"], first["threads_batch"]) == ("100", "90", "8")
    assert (second["generation_max"], second["bandwidth_share"], second["failure"]) == ("5", "0.25", "")
    assert (dead["prompt_median"], dead["failure"]) == ("", 'it said, "no"')


def test_the_chart_is_xml_with_a_bar_whiskers_and_a_label_for_each_result_and_panel(speeds):
    manifest = replace(speeds.manifest, name='<a> & \x1b"b"')
    root = ElementTree.fromstring(chart(replace(speeds, manifest=manifest)).encode())
    found = [element.tag.rpartition("}")[2] for element in root.iter()]
    texts = [element.text for element in root.iter() if element.text and element.text.strip()]
    assert found.count("path") == 4 and found.count("rect") == 1 + 4 + 2
    for text in ("cpu-a, repacked", "cpu-a, mapped", "100", "10.0", "5.00", "tokens a second", "Generating"):
        assert text in texts
    assert texts[0].startswith('<a> & \ufffd"b"')


@pytest.mark.parametrize("most,ticks", [(0.9, [0, 0.5]), (100, [0, 50, 100]), (3.1, [0, 1, 2, 3]), (0, [0])])
def test_ticks_are_round(most, ticks):
    assert list(_ticks(most)) == ticks


def survey(available, needed=4 * GIB, prepacked=False):
    choices = tuple(Choice(Backend(name, "x.so"), "", "") for name in ("cpu-a", "cpu-b"))
    member = SimpleNamespace(size=needed)
    return SimpleNamespace(
        ranking=SimpleNamespace(choices=choices),
        facts=replace(FACTS, memory_available=available),
        artifact=SimpleNamespace(weights=member, manifest=SimpleNamespace(projector=None)),
        options=EngineOptions(),
        settled=SimpleNamespace(prepacked=prepacked),
        fit=SimpleNamespace(caches=0, buffers=0),
    )


def test_all_are_all_kernels_with_weights_mapped_and_repacked():
    runners, notes = runners_of(survey(16 * GIB), CHOSEN, True)
    assert [runner.title for runner in runners] == [
        f"{name}, weights {how}" for name in ("cpu-a", "cpu-b") for how in ("mapped", "repacked")
    ]
    assert notes == () and {runner.settings.threads for runner in runners} == {4}
    assert [runner.settings for runner in runners_of(survey(GIB), CHOSEN, False)[0]] == [CHOSEN]
    runners, notes = runners_of(survey(4 * GIB), CHOSEN, True)
    assert len(runners) == 2 and "Repacked weights are left out: they need 4.7 GB" in notes[0]
    runners, notes = runners_of(survey(4 * GIB, prepacked=True), replace(CHOSEN, prepacked=True), True)
    assert [runner.settings.layout for runner in runners] == ["prepacked"] * 2 and notes == ()


@pytest.mark.parametrize(
    "free,cache,megabytes", [(16, 32, 512), (16, 0, 256), (64, 1024, 4096), (1, 32, 256), (0, 32, 0)]
)
def test_the_buffer_is_much_larger_than_the_cache_and_a_part_of_what_is_free(free, cache, megabytes):
    facts = replace(FACTS, memory_available=free * GIB, caches={"L3": cache << 20})
    assert buffer_of(SimpleNamespace(facts=facts)) == megabytes


@pytest.fixture
def machine(played, tmp_path, monkeypatch, misbehaviour):
    """It is played, and its cache is this test's; the path is the engines' journal."""
    home = tmp_path / "cache" / "_MEI0123456789abcd"
    home.mkdir(parents=True)
    monkeypatch.setenv("MKLLM_HOME", str(home))
    monkeypatch.setenv("MKLLM_HOME_KIND", "cache")
    return misbehaviour(tokens=100000.0)


def test_it_measures_what_a_launch_takes(fake_artifact, run, machine):
    done = run(fake_artifact, "bench", "--json")
    assert done.returncode == 0 and done.stderr == ""
    found = json.loads(done.stdout)
    (only,) = found["results"]
    assert only["chosen"] and only["kernel"] == "cpu-haswell" and only["repack"]
    assert only["prompt"]["median"] == pytest.approx(200000) and only["prompt"]["count"] == 5
    assert only["generation"]["median"] == pytest.approx(200000) and only["load_seconds"]["count"] == 1
    assert found["memory"]["bytes_per_second"]["count"] == 3


def test_all_kernels_and_every_output(fake_artifact, run, machine, tmp_path):
    table, plot = tmp_path / "t.csv", tmp_path / "p.svg"
    done = run(fake_artifact, "bench", "--all", "--csv", str(table), "--plot", str(plot), "-t", "2", "-tb", "3")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [(row["kernel"], row["weights"]) for row in rows] == [
        (name, how) for name in ("cpu-haswell", "cpu-sse42", "cpu-x64") for how in ("mapped", "repacked")
    ]
    assert {(row["threads"], row["threads_batch"]) for row in rows} == {("2", "3")}
    assert ElementTree.parse(plot).getroot().tag.endswith("svg") and "cpu-sse42" in done.stdout
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []
    printed = run(fake_artifact, "bench", "--csv", "-").stdout
    assert printed.startswith("kernel,weights,chosen,") and printed.count("\n") == 2


def test_a_kernel_that_crashes_is_told_and_the_others_are_measured(fake_artifact, run, machine, misbehaviour):
    misbehaviour(tokens=100000.0, measure={"libggml-cpu-sse42.so times": "SIGILL"})
    done = run(fake_artifact, "bench", "--all")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0 and "cpu-sse42, weights mapped: not measured, cpu-sse42 was ended by SIGILL" in words
    done = run(fake_artifact, "bench", "--kernel", "cpu-sse42")
    assert done.returncode == 40 and "nothing could be measured (cpu-sse42 was ended by SIGILL" in done.stderr


@pytest.mark.parametrize(
    "words,code,sentence",
    [
        (["--rounds", "3"], 2, "3 is not in the range x>=5"),
        (["--tokens", "0"], 2, "0 is not in the range"),
        (["--json", "--csv", "-"], 2, "both print on standard output"),
        (["--plot", "chart.png"], 2, "'chart.png' does not end with .svg"),
        (["--csv", "a.svg", "--plot", "a.svg"], 2, "both name 'a.svg'"),
        (["--depth", "4000"], 2, "4512 tokens of context are needed, and the model has 4096"),
        (["--kernel", "cpu-zen4"], 40, "the kernel 'cpu-zen4' does not run here"),
        (["--csv", "/nowhere/x.csv"], 13, "there is no folder '/nowhere'"),
        (["--csv", "/dev/null"], 13, "it is no plain file"),
        (["model"], 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(fake_artifact, run, machine, words, code, sentence):
    done = run(fake_artifact, "bench", *words)
    assert (done.returncode, done.stdout) == (code, "") and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not machine.exists()


def test_the_artifact_is_never_the_target(build_fake, run, machine, tmp_path):
    path = build_fake(tmp_path / "own")
    before = path.read_bytes()
    assert run(path, "bench", "--csv", str(path)).returncode == 12 and path.read_bytes() == before


def test_interrupted_it_leaves_nothing(fake_artifact, machine, misbehaviour, tmp_path):
    journal = misbehaviour(tokens=100000.0, measure={"libggml-cpu-sse42.so times": "hang"})
    words = ["bench", "--kernel", "cpu-sse42", "--csv", str(tmp_path / "out.csv")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mkllm.runtime", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "MKLLM_ARTIFACT": str(fake_artifact)},
    )
    last = "context 512 512 1"  # before it hangs
    end = time.monotonic() + 30
    while not (journal.exists() and last in journal.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert children and not [child for child in children if child.is_running()]
    assert not [path for path in tmp_path.iterdir() if "out.csv" in path.name]
