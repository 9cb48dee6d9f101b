"""The installed command, and artifacts that it made, as they serve."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

STOP_SECONDS = 15
Mkllm = Callable[..., subprocess.CompletedProcess[str]]


def command_line(mkllm: Path, seconds: float) -> Mkllm:
    """`run(*words)`: the installed command with these words, to its end, which comes within so many seconds."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [mkllm, *words], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )

    return run


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "mkllm-engine" in " ".join(process.cmdline()[:1])
    return False


@dataclass(frozen=True)
class Server:
    """A running artifact: `url` without a path, its first process, and the file where what it prints goes."""

    url: str
    port: int
    process: psutil.Process
    output: Path

    @property
    def engine(self) -> psutil.Process:
        found = [child for child in self.process.children(recursive=True) if _is_engine(child)]
        assert len(found) == 1, self.output.read_text()
        return found[0]

    def health(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            return connection.getresponse().status

    def ask(self, text: str) -> str:
        """The beginning of the answer to one message."""
        body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 8})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        return str(answer["choices"][0]["message"]["content"])

    def wait_ready(self, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self.health() == 200:
                    return
            assert self.process.is_running(), self.output.read_text()
            time.sleep(0.02)
        raise AssertionError(f"not ready after {seconds} s:\n{self.output.read_text()}")


Serve = Callable[..., contextlib.AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def mkllm() -> Path:
    """The installed command."""
    found = shutil.which("mkllm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, "mkllm is not installed in this environment"
    return Path(found)


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """`serve(artifact, *args, env=…)`: a context in which the artifact serves on a free port. `through` are the words
    of a program that runs it, `seconds` the most that it may take to be ready."""

    @contextlib.contextmanager
    def serving(
        artifact: Path,
        *args: str,
        env: dict[str, str] | None = None,
        wait: bool = True,
        seconds: float = 60.0,
        through: Sequence[str | Path] = (),
    ) -> Iterator[Server]:
        port = free_port()
        output = tmp_path_factory.mktemp("served") / "output.txt"
        words = [*through, str(artifact), "--no-browser", "--port", str(port), *args]
        with (
            output.open("wb") as file,
            subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **(env or {})}
            ) as process,
        ):
            server = Server(f"http://127.0.0.1:{port}", port, psutil.Process(process.pid), output)
            try:
                if wait:
                    server.wait_ready(seconds)
                yield server
            finally:
                stop(process)

    return serving


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process as a user would, and by force if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
