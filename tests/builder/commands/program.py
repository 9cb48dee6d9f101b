"""`mkllm` as a program of its own, run in a folder; and what a refusal of it looks like."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-P", "-m", "mkllm.builder"]


def run(folder: Path, *words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Its standard input is empty, unless the options of `subprocess.run` say something else."""
    usual = {"cwd": folder, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    return subprocess.run([*COMMAND, *map(str, words)], **{**usual, **options})  # type: ignore[call-overload, no-any-return]


def refused(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    """One sentence, the right exit code, no traceback, nothing on standard output."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("mkllm: ") and done.stderr.count("\n") == 1 and done.stdout == "", done
    for text in texts:
        assert text in done.stderr
