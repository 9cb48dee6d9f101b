"""Nothing is left behind: after Ctrl-C, after SIGTERM, and after kill -9 of any one process."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

SECONDS = 10.0


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if runs(process)]


def runs(process: psutil.Process) -> bool:
    """It may end between any two questions."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(params=["cache", "temporary"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which everything the artifact writes lies in folders of this test: with a home to keep the
    runtime's files in, or with a temporary folder alone."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    home = str(tmp_path / "home") if request.param == "cache" else "/dev/null/home"
    yield {"HOME": home, "TMPDIR": str(tmp_path / "temporary"), "XDG_CACHE_HOME": "", "XDG_RUNTIME_DIR": ""}


def left_behind(places: dict[str, str]) -> list[Path]:
    """Files in the temporary folder, and anything in the home that is not the kept runtime."""
    found = list(Path(places["TMPDIR"]).iterdir())
    if Path(places["HOME"]).is_dir():
        runtime = Path(places["HOME"]) / ".cache/mkllm/runtime"
        found += [path for path in runtime.iterdir() if not path.name.startswith("_MEI")]
    return found


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_clean(demo: Path, serve: Any, places: dict[str, str], name: signal.Signals) -> None:
    with serve(demo, env=places) as server:
        tree = [server.process, *server.process.children(recursive=True)]
        server.process.send_signal(name)
        until(lambda: not alive(tree), "a process survived")
        assert left_behind(places) == []
        if name != signal.SIGHUP:
            assert "Traceback" not in server.output.read_text()


def test_ctrl_c_on_a_terminal_reaches_the_whole_group(demo: Path, places: dict[str, str]) -> None:
    process = subprocess.Popen(
        [demo, "--no-browser", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **places},
        start_new_session=True,
    )
    with process:
        assert process.stdout and "http://127.0.0.1:" in "".join(process.stdout.readline() for _ in range(2))
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(SECONDS) == 0
        until(lambda: not alive(tree), "a process survived")
    assert left_behind(places) == []


def test_kill_9_of_the_engine_is_mended(demo: Path, serve: Any, places: dict[str, str]) -> None:
    with serve(demo, env=places) as server:
        first = server.engine
        first.kill()
        until(lambda: not runs(first), "not killed")
        time.sleep(0.2)
        server.wait_ready()
        assert server.engine.pid != first.pid
    assert left_behind(places) == []


def test_kill_9_of_any_other_process_ends_all(demo: Path, serve: Any, places: dict[str, str]) -> None:
    with serve(demo, env=places) as server:
        count = len([server.process, *server.process.children(recursive=True)])
    for index in range(count):
        with serve(demo, env=places) as server:
            tree = [server.process, *server.process.children(recursive=True)]
            if tree[index] == server.engine:
                continue
            tree[index].kill()
            until(lambda tree=tree: not alive(tree), f"a process survived the kill of number {index}")  # type: ignore[misc]
            until(lambda: left_behind(places) == [], f"files are left after the kill of number {index}")


def test_no_socket_is_left(demo: Path, serve: Any) -> None:
    def sockets() -> set[str]:
        return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "mkllm" in line}

    before = sockets()
    with serve(demo):
        assert sockets() - before
    until(lambda: sockets() <= before, "a socket is left")


def test_folders_of_others_are_never_touched(demo: Path, serve: Any, tmp_path: Path) -> None:
    """A launch removes what killed launches left in the temporary folder, and nothing that has a similar name."""
    for name in ("mkllm-work", "mkllm-1-abcdef", "mkllm-12-abcdeg", "mkllm--abcdef", "mkllm-3-abcdef0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    abandoned = tmp_path / "mkllm-4-abcdef" / "_MEI0123456789abcd"
    abandoned.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("precious")}
    places = {"HOME": "/dev/null/home", "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "", "XDG_RUNTIME_DIR": ""}
    with serve(demo, env=places):
        assert not abandoned.exists()
    assert {path for path in tmp_path.rglob("precious")} == before and len(before) == 5
