"""The front's own answers: /health, keys, origins, preflights, and requests that are none."""

from typing import Any

import pytest


def test_health(front: Any) -> None:
    for path in ("/health", "/v1/health"):
        answer = front.ask(path)
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/json")
        assert answer.json == {
            "status": "ok",
            "model": "echo",
            "kernel": "cpu-a",
            "reason": "tests; best of 2",
            "context": 4096,
            "notes": [],
            "engine": {"restarts": 0, "last_failure": None},
        }


def test_a_foreign_host_is_refused_everywhere(front: Any) -> None:
    for path in ("/", "/health", "/v1/models", "/favicon.svg"):
        answer = front.ask(path, Host="evil.example")
        assert answer.status == 403 and "evil.example" in answer.json["error"]["message"]


def test_a_foreign_origin_is_refused_and_told_nothing(front: Any) -> None:
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/v1/chat/completions"), ("OPTIONS", "/v1/models")):
        answer = front.ask(path, method, Origin="https://evil.example", Access_Control_Request_Method="POST")
        assert answer.status == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_an_allowed_origin(start: Any) -> None:
    app = "https://app.example"
    with start(front={"allow_origins": (app,), "api_keys": ("k",)}) as front:
        preflight = front.ask(
            "/v1/chat/completions",
            "OPTIONS",
            Origin=app,
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization, content-type",
            Access_Control_Request_Private_Network="true",
        )
        assert preflight.status == 204 and preflight.headers["Access-Control-Allow-Origin"] == app
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert preflight.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert preflight.headers["Access-Control-Allow-Private-Network"] == "true"
        for key, status in (("k", 200), ("wrong", 401)):
            answer = front.ask("/echo", "POST", b"x", Origin=app, Authorization=f"Bearer {key}")
            assert answer.status == status and answer.headers["Access-Control-Allow-Origin"] == app
        assert front.ask("/echo", Origin="https://other.example", X_Api_Key="k").status == 403


def test_plain_options(front: Any) -> None:
    answer = front.ask("/v1/models", "OPTIONS")
    assert answer.status == 204 and "POST" in answer.headers["Allow"]


def test_keys_guard_everything_but_health_and_page(start: Any) -> None:
    with start(front={"api_keys": ("one", "two")}) as front:
        for path in ("/", "/index.html", "/favicon.svg", "/health", "/v1/health"):
            assert front.ask(path).status == 200
        for path in (
            "/echo",
            "/v1/models",
            "/props",
            "/%2e/",
            "/x/../",
            "//",
            "/index.html/",
            "/health/",
            "/x?/health",
        ):
            assert front.ask(path).status == 401, path
        assert front.ask("/", "POST", b"x").status == 401
        refused = front.ask("/echo")
        assert refused.json["error"]["type"] == "authentication_error" and refused.json["error"]["code"] == 401
        assert front.ask("/echo", X_Api_Key="two").status == 200
        assert front.ask("/echo", Authorization="Bearer one").status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %0300d\r\n" % (n, n) for n in range(60)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(500)) + b"\r\n",
    ],
)
def test_what_is_no_request_gets_400(front: Any, request_bytes: bytes) -> None:
    answer = front.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 400") or answer.startswith(b"HTTP/1.0 400"), answer[:200]
    assert b'"error"' in answer and b"Traceback" not in answer


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_are_not_served(front: Any, method: str) -> None:
    target = "localhost:80" if method == "CONNECT" else "/echo"
    answer = front.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer[9:12] in (b"400", b"405")


def test_a_websocket_is_not_opened(front: Any) -> None:
    with front.connect() as connection:
        connection.sendall(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_headers_just_below_the_limit(front: Any) -> None:
    assert front.ask("/echo", X="x" * 15_000).status == 200


def test_nothing_was_printed_but_the_banner(front: Any) -> None:
    assert front.errors == ""
