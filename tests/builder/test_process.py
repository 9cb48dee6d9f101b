"""The runner of programs: output, log, and each failure as its own error."""

import contextlib
import io
import sys
import time
from pathlib import Path

import psutil
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


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
FAMILY = """
import os, subprocess, sys, time
wait = "import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", wait])
other_group = subprocess.Popen([sys.executable, "-c", wait], process_group=0)
print(os.getpid(), child.pid, other_group.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interrupted_run_leaves_no_process(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the program nor what it started, whether it does as it is asked or not."""
    monkeypatch.setattr("mkllm.builder.process.GRACE", 0.3)
    seen: list[int] = []

    def stop(line: str) -> None:
        seen.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(python((DEAF if deaf else "") + FAMILY), on_line=stop)
    assert len(seen) == 3
    end = time.monotonic() + 5
    while [pid for pid in seen if is_alive(pid)] and time.monotonic() < end:
        time.sleep(0.01)
    assert [pid for pid in seen if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_an_interrupted_program_may_end_in_its_own_way(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    code = f"""
import signal, sys, time
def end(*_):
    time.sleep(0.1)
    open({str(tmp_path / "ended")!r}, "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""
    with pytest.raises(KeyboardInterrupt):
        run(python(code), on_line=stop)
    assert (tmp_path / "ended").exists()
