"""A build that is interrupted at any moment leaves the target as it was, and nothing else once it is repeated."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TIMES = 50
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture
def model(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> Path:
    """A model of 12 MB, so that some of a build is writing."""
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(tensors={f"blk.{n}.w": ((1024, 1000), 0) for n in range(3)}))
    return path


def start(model: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "mkllm.builder", "build", "-q", "--force", str(model), "-o", str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def complete(model: Path, target: Path) -> None:
    process = start(model, target)
    errors = process.communicate()[1]
    assert (process.returncode, errors) == (0, "")


def test_interrupted_at_random_moments(kit_cache: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "artifact"
    begun = time.monotonic()
    complete(model, target)
    whole, seconds = target.read_bytes(), time.monotonic() - begun
    seen = set()
    for number in range(TIMES):
        chance = random.Random(number)
        old = b"what was there before" if number % 2 else whole
        target.write_bytes(old)
        which = SIGNALS[number % len(SIGNALS)]
        process = start(model, target)
        time.sleep(chance.uniform(0.1, 1.0) * seconds)
        process.send_signal(which)
        errors = process.communicate()[1]
        seen.add(process.returncode)
        assert target.read_bytes() in (old, whole), number
        assert process.returncode in (0, -which, CODES.get(which)), (number, errors)
        if process.returncode == CODES.get(which):
            assert errors in ("mkllm: interrupted\n", "mkllm: terminated\n", "mkllm: its terminal was closed\n"), number
            assert not (folder / f".artifact.{process.pid}.partial").exists(), number
    assert seen & {130, 143, 129} and -signal.SIGKILL in seen
    complete(model, target)
    assert os.listdir(folder) == ["artifact"] and target.read_bytes() == whole


def test_killed_while_writing(kit_cache: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    process = start(model, folder / "artifact")
    while process.poll() is None and not list(folder.glob(".artifact.*.partial")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    left = os.listdir(folder)
    assert left == [f".artifact.{process.pid}.partial"], left
    complete(model, folder / "artifact")
    assert os.listdir(folder) == ["artifact"]


def test_two_builds_of_one_target_do_not_disturb_each_other(kit_cache: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    both = [start(model, folder / "artifact") for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert os.listdir(folder) == ["artifact"]
