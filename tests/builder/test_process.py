"""The runner of programs: output, log, and each failure as its own error."""

import io
import sys
from pathlib import Path

import pytest

from mkllm.builder.errors import MissingTool, NoSpace, ToolFailed
from mkllm.builder.process import TAIL_LINES, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_gives_both_streams_to_caller_log_and_listener() -> None:
    log, lines = io.StringIO(), []
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run(python(code), log=log, on_line=lines.append) == "out\nerr\n"
    assert lines == ["out", "err"]
    assert log.getvalue().endswith("out\nerr\n") and log.getvalue().startswith("$ ")


def test_environment_is_added_to() -> None:
    assert (
        run(python("import os; print(os.environ['X_TEST'], 'PATH' in os.environ)"), env={"X_TEST": "1"}) == "1 True\n"
    )


def test_failure_shows_the_last_lines_and_the_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, pytest.raises(ToolFailed) as failure:
        run(python("[print('line', i) for i in range(99)]; raise SystemExit(3)"), log=log)
    text = str(failure.value)
    assert "ended with status 3" in text and str(tmp_path / "log") in text
    assert text.count("\n  line") == TAIL_LINES and "line 98" in text


def test_a_signal_is_named() -> None:
    with pytest.raises(ToolFailed, match="ended by signal 9"):
        run(python("import os; os.kill(os.getpid(), 9)"))


def test_a_missing_program_is_a_sentence() -> None:
    with pytest.raises(MissingTool, match="'no-such-program-here' is missing"):
        run(["no-such-program-here"])


def test_a_program_that_may_not_be_executed(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(MissingTool, match="may not be executed"):
        run([tmp_path / "tool"])


def test_a_full_disk_has_its_own_error() -> None:
    with pytest.raises(NoSpace, match="no space left"):
        run(python("raise OSError(28, 'No space left on device')"))


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    code = f"import os,time; print(os.getpid(), flush=True); time.sleep(30); open({str(tmp_path / 'x')!r}, 'w')"
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(python(code), on_line=lambda line: (seen.append(line), stop(line))[0])
    assert not Path(f"/proc/{seen[0]}").exists()
