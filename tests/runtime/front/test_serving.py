"""A whole front: its port, its words, loading, the engine's death, and the end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("program.py")


def test_the_port_is_open_before_the_model_is(start: Any) -> None:
    with start(engine={"load_seconds": 6}, ready=False) as front:
        front.until(lambda: "http://" in front.output, "it printed no address")
        front.connect().close()
        first = front.ask("/health")
        assert first.status == 503 and first.json["status"] == "loading" and 0 <= first.json["progress"] < 1
        assert first.json["error"]["message"] == "Loading model" and first.json["kernel"] == "cpu-a"
        front.until(lambda: front.health().get("progress", 1) >= 0.5, "no progress was reported")
        front.wait_ready()
        assert front.health()["status"] == "ok"


def test_requests_wait_for_the_model(start: Any) -> None:
    with start(engine={"load_seconds": 1.5}, ready=False) as front:
        begun = time.monotonic()
        assert front.ask("/echo", "POST", b"early").json["body"] == "early"
        assert time.monotonic() - begun > 0.5
        assert front.health()["status"] == "ok"


def test_the_banner(start: Any) -> None:
    with start(front={"notes": ["a note for people"]}) as front:
        lines = front.output.splitlines()
        assert lines[0] == f"echo: http://127.0.0.1:{front.port} is the chat page; Ctrl-C stops it"
        assert (
            lines[1]
            == f"  API     http://127.0.0.1:{front.port}/v1 (OpenAI) and /v1/messages (Anthropic), without a key"
        )
        assert lines[2] == "  model   Echo (llama, 6.6 M parameters, Q8_0), context 4096 tokens"
        assert lines[3] == "  kernel  cpu-a (tests; best of 2)"
        assert lines[4].startswith("ready after ")
        assert front.errors == "a note for people\n"


@pytest.mark.parametrize(("keys", "warned"), [([], True), (["k"], False)])
def test_a_public_address_without_a_key_gets_a_warning(start: Any, keys: list[str], warned: bool) -> None:
    with start(front={"host": "0.0.0.0", "api_keys": keys}) as front:
        assert ("warning: everybody who can reach" in front.errors) is warned
        assert "http://127.0.0.1:" in front.output


def test_a_taken_port_moves_it_to_the_next(start: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start(front={"port": port}) as front:
            assert port < front.port <= port + 20
            assert f"port {port} is taken: this is port {front.port}" in front.errors


def test_an_address_that_is_not_this_machines(start: Any) -> None:
    with start(front={"host": "192.0.2.1"}, ready=False) as front:
        assert front.ended() == 42
        assert front.errors.count("\n") == 1 and "'192.0.2.1' is no address of this machine" in front.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well(start: Any, number: signal.Signals) -> None:
    with start() as front:
        begun = time.monotonic()
        front.signal(number)
        assert front.ended() == 0 and time.monotonic() - begun < 2.0
        assert front.errors == ""
        with pytest.raises(ConnectionRefusedError):
            front.connect()


def test_a_signal_while_loading_ends_it_well(start: Any) -> None:
    with start(engine={"load_seconds": 30}, ready=False) as front:
        front.until(lambda: "kernel" in front.output, "no banner")
        front.signal(signal.SIGINT)
        assert front.ended() == 0 and front.errors == ""


def test_a_stop_ends_streams_with_an_event(start: Any) -> None:
    with start() as front:
        with front.connect() as connection:
            connection.sendall(b"GET /generate?pieces=1000&seconds=0.05 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)
            front.signal(signal.SIGTERM)
            begun = time.monotonic()
            with connection.makefile("rb") as file:
                rest = file.read()
        assert front.ended() == 0 and time.monotonic() - begun < 2.0
        assert b"the program was stopped" in rest


def test_the_engines_death_is_told_and_mended(start: Any) -> None:
    with start() as front:
        died = front.ask("/die", "POST", b"x")
        assert died.status == 503 and "SIGKILL" in died.json["error"]["message"]
        front.wait_ready()
        health = front.health()
        assert health["engine"]["restarts"] == 1 and "SIGKILL" in health["engine"]["last_failure"]
        assert front.ask("/echo").status == 200
        assert "started again with" in front.errors


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/v1/chat/completions", None),
        ("/v1/messages", "event: error"),
        ("/v1/responses", "event: error"),
    ],
)
def test_a_stream_that_the_engine_leaves_ends_with_an_error(start: Any, path: str, event: str | None) -> None:
    with start() as front:
        answer = front.ask(f"{path}?stream=1&pieces=9&seconds=0.05&die_after=3", "POST", b"{}")
        assert answer.status == 200
        *pieces, last = answer.body.decode().strip().split("\n\n")
        assert pieces == ["data: 0", "data: 1", "data: 2"]
        assert last.partition("\n")[0] == event if event else last.startswith("data: ")
        told = json.loads(last.partition("data: ")[2])
        assert "SIGKILL" in json.dumps(told) and ("error" in told or told["type"] == "error")


def test_another_answer_that_the_engine_leaves_is_cut(start: Any) -> None:
    with start() as front:
        ask = b"GET /generate?kind=text/plain&pieces=9&seconds=0.05&die_after=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with front.connect() as connection:
            connection.sendall(ask)
            data = b""
            try:
                while piece := connection.recv(65536):
                    data += piece
            except ConnectionResetError:
                pass
        assert b"data: 2" in data and not data.endswith(b"0\r\n\r\n")


def test_a_request_during_the_restart_waits_for_it(start: Any) -> None:
    with start(engine={"load_seconds": 1}) as front:
        assert front.ask("/die").status == 503
        assert front.ask("/echo", "POST", b"patience").json["body"] == "patience"


def test_an_engine_that_never_starts_ends_the_program(start: Any) -> None:
    with start(engine={"die_at_start": 3}, ready=False) as front:
        assert front.ended() == 40
        assert "ended with status 3" in front.errors


def test_an_engine_that_keeps_dying_ends_the_program(start: Any) -> None:
    with start() as front:
        for _ in range(10):
            if front.process.poll() is not None:
                break
            try:
                front.ask("/die")
            except OSError:
                break
        assert front.ended() == 41
        assert "in a row" in front.errors.splitlines()[-1] or "no other kernel" in front.errors.splitlines()[-1]


def test_verbose_shows_requests(start: Any) -> None:
    with start(front={"verbose": True}) as front:
        front.ask("/echo?x=1", "POST", b"x")
        front.until(lambda: "POST '/echo?x=1' 200" in front.errors, "the request was not shown")


def test_readers_of_its_output_that_go_away_harm_nothing() -> None:
    told = json.dumps({"front": {"verbose": True}})
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), told], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        port = int(process.stdout.readline().partition(b"http://")[2].split()[0].rpartition(b":")[2])
        process.stdout.close()
        process.stderr.close()
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
            connection.request("GET", "/echo")
            assert connection.getresponse().status == 200
            connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
