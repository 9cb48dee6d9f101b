"""The front in a process of its own, with the echo engine behind it, and raw HTTP to talk to it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

PROGRAM = Path(__file__).with_name("program.py")
SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Front:
    """A running front; what it prints goes to two files."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    @property
    def port(self) -> int:
        wait_for(lambda: "http://" in self.output, "it printed no address")
        return int(self.output.partition("http://")[2].split()[0].rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; `Sec_Fetch_Site` is the header Sec-Fetch-Site."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def state(self) -> dict[str, int]:
        """The echo engine's counters."""
        return cast(dict[str, int], self.ask("/state").json)

    def health(self) -> Any:
        return self.ask("/health").json

    def wait_ready(self) -> None:
        wait_for(lambda: self.health()["status"] == "ok", "it did not become ready")

    def until(self, condition: Callable[[], bool], otherwise: str, seconds: float = SECONDS) -> None:
        """Wait for `condition`; fails with the sentence `otherwise`."""
        wait_for(condition, otherwise, seconds)

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back for these bytes, until the front closes the connection."""
        with self.connect() as connection:
            connection.sendall(data)
            with connection.makefile("rb") as file:
                return file.read()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = SECONDS) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(seconds)


Start = Callable[..., contextlib.AbstractContextManager[Front]]


def wait_for(condition: Callable[[], bool], otherwise: str, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


@contextlib.contextmanager
def running(folder: Path, told: Mapping[str, Any], ready: bool) -> Iterator[Front]:
    output, errors = folder / "output.txt", folder / "errors.txt"
    words = [sys.executable, "-W", "error", str(PROGRAM), json.dumps(told)]
    with output.open("wb") as out, errors.open("wb") as err:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment) as process:
            front = Front(process, output, errors)
            try:
                if ready:
                    front.wait_ready()
                yield front
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait(SECONDS)
    assert "Traceback" not in front.errors, front.errors


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """`start(front={…}, engine={…}, prompt=…)`: a context in which such a front runs; `ready=False` does not wait."""

    def starting(*, ready: bool = True, **told: Any) -> contextlib.AbstractContextManager[Front]:
        return running(tmp_path_factory.mktemp("front"), told, ready)

    return starting


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One front with all defaults, for tests that leave it as it is."""
    with running(tmp_path_factory.mktemp("front"), {}, ready=True) as running_front:
        yield running_front
