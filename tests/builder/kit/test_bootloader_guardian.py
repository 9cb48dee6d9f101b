"""The guardian: passes signals on, ends as the program does, and leaves nothing behind, whoever is killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

SECONDS = 10.0


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def started(sandbox: Any, seconds: str = "60") -> tuple[subprocess.Popen[str], psutil.Process, Path]:
    """The guardian, the program that it guards, and the program's home."""
    process = sandbox.start("wait", seconds, HOME=None)
    pid, home = process.stdout.readline().split()
    assert int(pid) != process.pid and psutil.Process(int(pid)).ppid() == process.pid
    return process, psutil.Process(int(pid)), Path(home)


@pytest.mark.parametrize("home", ["kept", None])
@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code(sandbox: Any, home: str | None, code: int) -> None:
    changes = {} if home else {"HOME": None}
    assert sandbox.run("exit", str(code), **changes).returncode == code
    assert not sandbox.leftovers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_ends_by_the_same_signal(sandbox: Any, number: int) -> None:
    assert sandbox.run("die", str(int(number)), HOME=None).returncode == -number
    assert not sandbox.leftovers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_passes_signals_on(sandbox: Any, number: int) -> None:
    process, _, _ = started(sandbox)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=SECONDS)
    assert (json.loads(out), process.returncode, err) == ([number], 0, "")
    assert not sandbox.leftovers()


def test_interrupt_from_the_terminal_comes_once(sandbox: Any) -> None:
    """The terminal gives it to both processes; the guardian must not give it to the program again."""
    master, slave = os.openpty()
    words = ["setsid", "--ctty", "--wait", str(sandbox.program), "wait", "60"]
    with subprocess.Popen(words, env=sandbox.environment(HOME=None), stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        printed = b""
        while b"_MEI" not in printed:
            printed += os.read(master, 1000)
        os.write(master, b"\x03")
        with contextlib.suppress(OSError):
            while data := os.read(master, 1000):
                printed += data
    os.close(master)
    assert b"[2]" in printed, printed
    assert not sandbox.leftovers()


def test_ignored_hangup_stays_ignored(sandbox: Any) -> None:
    words = ["nohup", str(sandbox.program), "exit", "5"]
    assert sandbox.run(words=words, HOME=None).returncode == 5


def test_program_is_killed(sandbox: Any) -> None:
    process, program, home = started(sandbox)
    program.kill()
    process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert not home.exists() and not sandbox.leftovers()


def test_guardian_is_killed(sandbox: Any) -> None:
    process, program, home = started(sandbox)
    process.kill()
    process.communicate(timeout=SECONDS)
    until(lambda: not program.is_running(), "the program outlives its guardian")
    until(lambda: not home.exists(), "the home is left behind")
    assert not sandbox.leftovers()


def test_both_are_killed_and_the_next_launch_cleans_up(sandbox: Any) -> None:
    process, program, home = started(sandbox)
    process.send_signal(signal.SIGSTOP)
    program.send_signal(signal.SIGSTOP)
    program.kill()
    process.kill()
    process.communicate(timeout=SECONDS)
    assert home.exists()
    other, _, alive = started(sandbox)
    assert not home.exists() and alive.exists()
    assert sandbox.run("exit", "0", HOME=None).returncode == 0
    assert alive.exists()  # in use, so not swept
    other.terminate()
    other.communicate(timeout=SECONDS)
    assert not sandbox.leftovers()


def test_killed_at_random_moments_while_extracting(sandbox: Any) -> None:
    chance = random.Random(3)
    for turn in range(24):
        process = sandbox.start("wait", "60", HOME=None)
        time.sleep(chance.random() * 0.08)
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        victim = children[0] if children and turn % 2 else process
        victim.kill()
        process.communicate(timeout=SECONDS)
    until(lambda: not [p for p in psutil.process_iter() if runs(p, sandbox.program)], "a process is left behind")
    assert sandbox.run("exit", "0", HOME=None).returncode == 0
    assert not sandbox.leftovers()


def runs(process: psutil.Process, program: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.exe() == str(program) and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_cache_is_whole_or_not_there(sandbox: Any, number: int) -> None:
    chance = random.Random(4)
    for _ in range(16):
        process = sandbox.start("exit", "0")
        time.sleep(chance.random() * 0.08)
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
        assert process.returncode in (0, -number)
        if number == signal.SIGTERM:
            assert not sandbox.leftovers()
        for home in sandbox.cache.glob("_MEI?????????????"):
            assert (home / ".complete").exists()
    assert sandbox.run("exit", "0").returncode == 0
    assert not sandbox.leftovers()


@pytest.mark.parametrize("home", ["kept", None])
def test_many_first_launches_at_once(sandbox: Any, home: str | None) -> None:
    changes = {} if home else {"HOME": None}
    processes = [sandbox.start("facts", **changes) for _ in range(6)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, answers
    homes = {json.loads(out)["home"] for out, _ in answers}
    assert len(homes) == (1 if home else 6)
    assert not sandbox.leftovers()
