"""Standard streams that are closed or full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -P -m mkllm.builder"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = command.replace("mkllm ", f"{COMMAND} ", 1)
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_harm_nothing(closed: str, kit_cache: Path, small_gguf: Path, tmp_path: Path) -> None:
    done = shell(f"mkllm build {small_gguf} -o out {closed}", tmp_path)
    assert done.returncode == 0 and (tmp_path / "out").read_bytes().endswith(b"\n")
    assert done.stderr == "" and ("out: " in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize("words", ["build --help", "--version", "inspect {}", "inspect {} --json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_device(
    words: str, unbuffered: str, small_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell(f"mkllm {words.format(small_artifact)} >/dev/full", tmp_path)
    sentence = "mkllm: the output cannot be written (no space left on device): send it somewhere else\n"
    assert (done.returncode, done.stderr) == (14, sentence)


def test_names_that_are_no_text_are_printed_as_they_are(small_artifact: Path, tmp_path: Path) -> None:
    command = [*COMMAND.split(), "extract", str(small_artifact), "-o", os.fsdecode(b"x\xff")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\xff\n", b"")
