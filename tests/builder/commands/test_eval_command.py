"""`mkllm eval`: which options go together, and what is said without the harness."""

import importlib.util
import os
from pathlib import Path

import pytest

from mkllm.builder.cli import main
from mkllm.builder.errors import NoAnswer
from mkllm.builder.harness.launch import serving
from mkllm.builder.progress import Output


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
