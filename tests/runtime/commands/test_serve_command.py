"""`serve` as a process among others: what it leaves behind after which end. Its answers are tested with the front."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

SECONDS = 30.0


@dataclass
class Server:
    process: subprocess.Popen
    port: int

    @property
    def engine(self):
        return psutil.Process(self.process.pid).children()[0]

    def health(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return json.loads(connection.getresponse().read())
        except OSError:
            return {}
        finally:
            connection.close()

    def wait(self, condition):
        end = time.monotonic() + SECONDS
        while not condition(self.health()):
            assert time.monotonic() < end and self.process.poll() is None
            time.sleep(0.02)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where homes and temporary folders of these tests are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def serve(engine_artifact, places, played):
    """`serve(*words, artifact=…, wait=…, through=…, VARIABLE=…)`: a server, the real one if there is one.

    It is ended with the test. `through`: words of a program that runs it in its own place.
    """
    started = []

    def start(*words, artifact=engine_artifact, wait=True, through=(), **environment):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*through, sys.executable, "-m", "mkllm.runtime", "--no-browser", "--port", str(port), *words],
            env={**os.environ, "MKLLM_ARTIFACT": str(artifact), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        server = Server(process, port)
        started.append(process)
        if wait:
            server.wait(lambda health: health.get("status") == "ok")
        return server

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def left(places):
    return sorted(path.name for path in places.iterdir() if path.name.startswith("mkllm-"))


def gone(process):
    end = time.monotonic() + 5
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_clean(serve, places, number):
    server = serve()
    engine = server.engine
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert gone(engine) and left(places) == []


@pytest.mark.parametrize(
    "number,through",
    [(signal.SIGHUP, ["nohup"]), (signal.SIGINT, ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"])],
)
def test_a_signal_that_is_ignored_at_the_start_does_not_end_it(serve, places, number, through):
    server = serve(through=through)
    server.process.send_signal(number)
    time.sleep(0.5)
    assert server.process.poll() is None and server.health()["status"] == "ok"
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0 and left(places) == []


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_a_stop_at_any_moment_of_the_start_leaves_nothing(serve, fake_artifact, places, misbehaviour, seconds):
    journal = misbehaviour(load_seconds=2)
    server = serve(artifact=fake_artifact, wait=False)
    time.sleep(seconds)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) in (0, 143, -15)
    started = [int(line.split()[0]) for line in journal.read_text().splitlines()] if journal.exists() else []
    assert not [pid for pid in started if psutil.pid_exists(pid)] and left(places) == []


def test_a_killed_engine_is_started_again(serve):
    server = serve()
    first, kernel = server.engine, server.health()["kernel"]
    first.kill()
    server.wait(lambda health: health.get("status") == "ok" and health["engine"]["restarts"] == 1)
    assert server.health()["kernel"] == kernel and server.engine.pid != first.pid
    assert server.health()["engine"]["last_failure"].endswith("was ended by SIGKILL while it served")


def test_a_killed_front_leaves_no_engine(serve):
    server = serve()
    engine = server.engine
    server.process.kill()
    assert gone(engine)


@pytest.mark.parametrize("kind", ["temporary", "memory"])
def test_homes_that_are_not_a_cache_are_removed(serve, places, kind):
    home = places / "mkllm-12-ab" / "_MEI0123456789abcd"
    home.mkdir(parents=True)
    server = serve(MKLLM_HOME=str(home), MKLLM_HOME_KIND=kind)
    files = list((home / "native").iterdir())
    assert len(files) >= 3 and all(file.is_symlink() == (kind == "memory") for file in files)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0 and left(places) == []


def test_a_cache_is_kept_and_used_again(serve, places):
    home = places / "runtime" / "_MEI0123456789abcd"
    home.mkdir(parents=True)
    seen = []
    for _ in range(2):
        server = serve(MKLLM_HOME=str(home), MKLLM_HOME_KIND="cache")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        seen.append({file.name: file.stat().st_ino for file in (home / "native").iterdir()})
    assert seen[0] == seen[1] and "mkllm-engine" in seen[0]
    assert len([name for name in seen[0] if name.startswith("libggml-cpu-")]) == 1


def test_no_kernel_works(serve, fake_artifact, misbehaviour):
    misbehaviour(start={"*": "SIGILL"})
    server = serve(artifact=fake_artifact, wait=False)
    assert server.process.wait(20) == 40
    assert b"was ended by SIGILL while it started" in server.process.stdout.read()
