"""The one place that runs other programs: logs what they print, shows it only on failure; knows no tool by name."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from mkllm.builder.errors import MissingTool, NoSpace, ToolFailed

TAIL_LINES = 12
GRACE = 10.0  # seconds that a program has to end what it started, before it is ended by force
ROUNDS = 5


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end and return what it printed (both streams, in order).

    Every line goes to `log` and to `on_line` as it comes. `env` is added to this process's environment.
    Whatever interrupts it, a signal above all, also ends the program and all that it started.
    Raises MissingTool when there is no such program, NoSpace when it ran into a full disk, ToolFailed (with the last
    lines it printed) when it ended with another error.
    """
    words = [str(word) for word in args]
    if log:
        log.write(f"$ {' '.join(words)}\n")
    lines = []
    with _start(words, cwd, env) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if log:
                    log.write(line)
                    log.flush()
                if on_line:
                    on_line(line.rstrip("\n"))
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise _failure(words, process.returncode, lines, log)
    return "".join(lines)


@contextlib.contextmanager
def background(
    args: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[str]]:
    """A program that runs while something else is done, its output in pipes; ended, if it still runs, with the block.

    `env` is its whole environment (None: this process's), `descriptors` are those that it inherits. Raises OSError when
    it cannot be started.
    """
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(
        [str(word) for word in args],
        cwd=cwd,
        env=env,
        stdin=null,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        pass_fds=tuple(descriptors),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _start(words: list[str], cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MissingTool(f"the program {words[0]!r} is missing: install it, or put it on PATH") from None
    except PermissionError:
        raise MissingTool(f"the program {words[0]!r} may not be executed: check its permissions") from None


def _end(process: subprocess.Popen[str]) -> None:
    """End the program with all that it started, which is its session: ninja, for one, gives each compiler a process
    group of its own, and ends them itself when it is asked to end."""
    try:
        _signal(_session(process.pid), signal.SIGTERM)
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for _ in range(ROUNDS):
            _signal(_session(process.pid), signal.SIGKILL)


def _session(leader: int) -> list[int]:
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader:
                members.append(pid)
    return members


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _failure(words: list[str], status: int, lines: list[str], log: IO[str] | None) -> Exception:
    text = "".join(lines)
    if "No space left on device" in text or "ENOSPC" in text or "NoSpaceLeft" in text:
        return NoSpace(f"no space left on the disk while running {Path(words[0]).name!r}: free some and try again")
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    where = f"; the whole output is in {log.name}" if log else ""
    tail = "".join(f"\n  {line.rstrip()}" for line in lines[-TAIL_LINES:])
    return ToolFailed(f"{Path(words[0]).name!r} {how}{where}{tail}")
