"""`mkllm eval`: which options go together, and what is said without the harness."""

import contextlib
import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.cli import main
from mkllm.builder.commands import evaluate
from mkllm.builder.errors import NoAnswer
from mkllm.builder.harness import launch, tasks
from mkllm.builder.harness.launch import serving
from mkllm.builder.progress import Output
from mkllm.builder.quant.evaluate import Evaluation, Quality
from mkllm.builder.quant.perplexity import Course, Estimate


@pytest.mark.parametrize(
    "words,sentence",
    [
        ([], "give either --text FILE, for perplexity, or --tasks NAMES, for scores"),
        (["--text", "x.txt", "--tasks", "arc_easy"], "give either --text FILE"),
        (["--text", "x.txt", "--limit", "3"], "--limit belongs to --tasks"),
        (["--text", "x.txt", "--apply-chat-template"], "--apply-chat-template belongs to --tasks"),
        (["--tasks", "arc_easy", "--quant", "Q8_0"], "--quant belongs to --text"),
        (["other", "--tasks", "arc_easy"], "OTHER belongs to --text"),
        (["--tasks", " , "], "' , ' names no task: write it like arc_easy,hellaswag"),
        (["--tasks", "arc_easy", "--ctx-size", "512"], "--ctx-size is for what is started here, and 'http://"),
        (["--tasks", "arc_easy", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["eval", "http://127.0.0.1:9", *words])
    said = capsys.readouterr()
    assert end.value.code == 2 and sentence in said.err and said.err.count("\n") == 1


def test_without_the_harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main(["eval", "demo", "--tasks", "arc_easy"])
    assert end.value.code == 21
    assert capsys.readouterr().err == (
        "mkllm: --tasks runs lm-evaluation-harness, which is not installed: "
        "install it with `pip install 'mkllm[eval]'`\n"
    )


def test_an_artifact_that_ends_before_it_serves(small_artifact: Path) -> None:
    os.chmod(small_artifact, 0o755)
    with pytest.raises(NoAnswer, match=r"ended with status 0 before it served \(ran: serve .*\): run it by itself"):
        with serving(str(small_artifact), 256, None, Output(quiet=True)):
            raise AssertionError("it serves nothing")


FOUND = {
    "results": {
        "one": {"alias": "one", "acc,none": 0.5, "acc_stderr,none": math.nan},
        "two": {"ppl,none": math.inf, "ppl_stderr,none": "N/A", "acc,strict": math.nan, "acc_stderr,strict": 0.25},
    }
}
Eval = Callable[..., tuple[int, str, str]]


@pytest.fixture
def measured() -> list[str]:
    """What was measured."""
    return []


@pytest.fixture
def evaluated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: list[str]
) -> Callable[[str], Eval]:
    """`evaluated("--tasks")(*words)`: exit code, output and errors of `mkllm eval`, where measuring is only played."""

    @contextlib.contextmanager
    def played(model: str, *_: Any) -> Iterator[None]:
        yield

    def run(*_: Any) -> list[tasks.Figure]:
        measured.append("tasks")
        return list(tasks._figures(FOUND))

    def predict(*_: Any) -> Evaluation:
        measured.append("text")
        quality = Quality("m", "F16", 10**9, 10**9, Estimate(7.5, 0.1), None)
        return Evaluation(Course(Path("text.txt"), 1000, 512, 4, 32000), (quality, quality))

    monkeypatch.setattr(launch, "serving", played)
    monkeypatch.setattr(tasks, "expect_harness", lambda: None)
    monkeypatch.setattr(tasks, "choose", lambda wanted: None)
    monkeypatch.setattr(tasks, "run", run)
    monkeypatch.setattr(evaluate, "_evaluate", predict)

    def evaluating(kind: str) -> Eval:
        def ran(*words: Any) -> tuple[int, str, str]:
            with pytest.raises(SystemExit) as end:
                main(["eval", "http://u:secret@127.0.0.1:9", kind, "x", "--quiet", *map(str, words)])
            assert isinstance(end.value.code, int)
            return end.value.code, *capsys.readouterr()

        return ran

    return evaluating


def plain(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def test_what_is_no_finite_number_is_null(evaluated: Callable[[str], Eval], tmp_path: Path) -> None:
    code, out, _ = evaluated("--tasks")("--json", "--csv", tmp_path / "x.csv")
    told = json.loads(out, parse_constant=plain)
    assert code == 0 and told["model"] == "http://127.0.0.1:9"
    rows = [(each["task"], each["metric"], each["value"], each["error"]) for each in told["figures"]]
    assert rows == [("one", "acc", 0.5, None), ("two", "ppl", None, None), ("two", "acc", None, 0.25)]
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert [line.split(",")[:6] for line in lines[1:]] == [
        ["one", "", "acc", "", "0.5", ""],
        ["two", "", "ppl", "", "", ""],
        ["two", "", "acc", "strict", "", "0.25"],
    ]


def test_and_a_table_says_none(evaluated: Callable[[str], Eval]) -> None:
    code, out, _ = evaluated("--tasks")()
    assert code == 0 and [line.split()[-1] for line in out.splitlines()[1:]] == ["0.5", "none", "none"]


WRITTEN = [("--tasks", "--csv"), ("--text", "--csv"), ("--text", "--plot")]


@pytest.mark.parametrize(("kind", "option"), WRITTEN)
def test_what_cannot_be_written_is_said_before_anything_is_measured(
    evaluated: Callable[[str], Eval],
    measured: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    option: str,
) -> None:
    words = ["--quant", "Q8_0"] if option == "--plot" else []
    for path, reason in {
        tmp_path / "none" / "x": "there is no folder",
        tmp_path: "(is a directory): choose another place",
    }.items():
        code, out, err = evaluated(kind)(*words, option, path)
        assert code == 13 and err.startswith(f"mkllm: {str(path)!r} cannot be written") and reason in err
        assert not out and err.count("\n") == 1
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    code, _, err = evaluated(kind)(*words, option, tmp_path / "x")
    assert code == 13 and "(permission denied): choose a folder that you may write to" in err
    assert not measured


@pytest.mark.parametrize(("kind", "option"), WRITTEN)
def test_what_could_not_be_written_is_printed(
    evaluated: Callable[[str], Eval], measured: list[str], kind: str, option: str
) -> None:
    words = ["--quant", "Q8_0"] if option == "--plot" else []
    code, out, err = evaluated(kind)(*words, "--json", option, "/dev/full")
    assert code == 14 and err == "mkllm: no space left in '/dev' for 'full': free some, or choose another disk\n"
    assert measured and len(json.loads(out)) > 1


@pytest.mark.parametrize("address", ["http://[::1", "http://u:secret@127.0.0.1:abc"])
@pytest.mark.parametrize("words", [[], ["--ctx-size", "512"]])
def test_addresses_that_cannot_be_right(
    address: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "expect_harness", lambda: None)
    monkeypatch.setattr(tasks, "choose", lambda wanted: None)
    with pytest.raises(SystemExit) as end:
        main(["eval", address, "--tasks", "x", "--quiet", *words])
    err = capsys.readouterr().err
    assert end.value.code == 29 and "is no address: write it like http://127.0.0.1:8080" in err
    assert err.count("\n") == 1 and "secret" not in err
