"""Requests to the engine and back: as they are, streamed both ways, with limits, and given up when the client is."""

import json
import socket
import time
from typing import Any
from urllib.parse import quote

import pytest

KIB = 1 << 10


def sent_headers(front: Any, **headers: str) -> dict[str, list[str]]:
    """What reached the engine, by lower-case name."""
    found: dict[str, list[str]] = {}
    for name, value in front.ask("/echo", **headers).json["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_method_path_query_and_body_arrive_as_they_are(front: Any, method: str) -> None:
    path = "/v1/a%20b/%C3%BC/..//c?x=1&y=%2F&z"
    found = front.ask(path, method, b"some body").json
    assert (found["method"], found["path"], found["body"]) == (method, path, "some body")


def test_head_has_headers_and_no_body(front: Any) -> None:
    answer = front.ask("/echo", "HEAD")
    assert answer.status == 200 and answer.body == b"" and int(answer.headers["Content-Length"]) > 100


def test_headers_arrive_but_those_of_the_connection_and_the_key(front: Any) -> None:
    found = sent_headers(
        front,
        X_Mine="yes",
        Accept="text/x",
        Connection="keep-alive, X-Hop",
        X_Hop="1",
        TE="trailers",
        Cookie="a=b",
        Authorization="Bearer mine",
        X_Api_Key="mine",
    )
    assert found["x-mine"] == ["yes"] and found["accept"] == ["text/x"] and found["host"] == ["engine"]
    assert not {"x-hop", "te", "cookie", "x-api-key", "origin"} & set(found)
    assert len(found["authorization"]) == 1 and "mine" not in found["authorization"][0]


def test_the_engines_status_and_headers_come_back_but_not_its_cors(front: Any) -> None:
    answer = front.ask("/missing")
    assert answer.status == 404 and answer.json == {"error": {"message": "no such thing"}}
    assert answer.headers["X-Engine"] == "echo" and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.headers["Server"] == "mkllm"


def read_events(connection: socket.socket, count: int) -> list[float]:
    """The times at which the first `count` events arrive."""
    times: list[float] = []
    data = b""
    while len(times) < count:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
        times += [time.monotonic()] * (data.count(b"data: ") - len(times))
    return times


def ask_raw(front: Any, path: str, **headers: str) -> socket.socket:
    connection = front.connect()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def test_a_body_that_is_no_json_is_the_clients_mistake(front: Any) -> None:
    """The engine says 500, after which clients would ask again."""
    told = "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error"
    refused = front.ask(f"/unreadable?message={quote(told)}", method="POST", body=b"{bad")
    assert refused.status == 400 and refused.json["error"]["type"] == "invalid_request_error"
    assert refused.json["error"]["message"].startswith("the body is no JSON")


@pytest.mark.parametrize(
    "told", ["broken", "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] parse error"]
)
def test_what_else_goes_wrong_in_the_engine_stays_as_it_is(front: Any, told: str) -> None:
    answer = front.ask(f"/unreadable?message={quote(told)}", method="POST", body=b"{}")
    assert answer.status == 500 and answer.json == {"error": {"code": 500, "message": told}}


def test_events_come_as_they_are_made(front: Any) -> None:
    """Made over half a second, and seen over most of it: none waits for the last."""
    with ask_raw(front, "/generate?pieces=6&seconds=0.1") as connection:
        times = read_events(connection, 6)
    assert times[-1] - times[0] > 0.25, times


def test_an_answer_under_way_goes_on_when_another_engine_takes_over(start: Any) -> None:
    with start(at_once={}, engine={"load_seconds": 1.0}) as front:
        with ask_raw(front, "/generate?pieces=60&seconds=0.05") as connection:
            read_events(connection, 1)
            first = front.ask("/health").json["reason"]
            front.until(lambda: front.ask("/health").json["reason"] != first, "no other engine took over")
            assert front.ask("/echo").status == 200
            read_events(connection, 59)


def test_a_long_answer_arrives_whole(front: Any) -> None:
    body = front.ask("/generate?pieces=20000").body
    assert body.split() == [word for number in range(20_000) for word in (b"data:", b"%d" % number)]


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_the_engine_stops_when_the_client_goes_away(front: Any, kind: str) -> None:
    before = front.state()
    with ask_raw(front, f"/generate?pieces=1000&seconds=0.02&kind={kind}") as connection:
        read_events(connection, 2)
        assert front.state()["running"] == before["running"] + 1
    begun = time.monotonic()
    front.until(lambda: front.state()["given_up"] == before["given_up"] + 1, "the engine went on")
    assert time.monotonic() - begun < 1.0
    assert front.state()["running"] == before["running"]


def test_a_reset_connection_stops_the_engine_too(front: Any) -> None:
    before = front.state()
    connection = ask_raw(front, "/generate?pieces=1000&seconds=0.02")
    read_events(connection, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    front.until(lambda: front.state()["given_up"] == before["given_up"] + 1, "the engine went on")


def test_a_client_that_does_not_read_holds_the_engine_back(front: Any) -> None:
    before = front.state()
    with ask_raw(front, "/generate?pieces=2000000"):
        time.sleep(0.5)
        assert front.state()["running"] == before["running"] + 1
    front.until(lambda: front.state()["running"] == before["running"], "the engine went on")


def test_bodies_are_streamed_while_they_are_sent(front: Any) -> None:
    with front.connect() as connection:
        head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        for _ in range(10):
            connection.sendall(b"5\r\nhello\r\n")
            time.sleep(0.02)
        connection.sendall(b"0\r\n\r\n")
        with connection.makefile("rb") as file:
            answer = file.read()
    assert b'"length":50' in answer and b'"body":"' + b"hello" * 10 in answer


def test_a_connection_serves_many_requests_and_pipelined_ones_in_order(front: Any) -> None:
    one = b"GET /echo?%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /echo?9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = front.raw(b"".join(one % number for number in range(9)) + last)
    assert [answers.index(b'"/echo?%d"' % number) for number in range(10)] == sorted(
        answers.index(b'"/echo?%d"' % number) for number in range(10)
    )
    assert answers.count(b"HTTP/1.1 200 OK") == 10


def test_http_1_0(front: Any) -> None:
    answer = front.raw(b"GET /generate?pieces=2 HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK") and answer.endswith(b"\r\n\r\ndata: 0\n\ndata: 1\n\n")


def test_a_client_that_waits_for_100_continue(front: Any) -> None:
    with front.connect() as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        with connection.makefile("rb") as file:
            answer = file.read()
    assert answer.startswith(b"HTTP/1.1 200 OK") and b'"body":"body"' in answer


def test_compressed_bodies_are_not_unpacked_on_the_way(front: Any) -> None:
    import gzip

    data = gzip.compress(b"x" * 1000, mtime=0)
    found = front.ask("/echo", "POST", data, Content_Encoding="gzip").json
    assert found["body"].encode("latin-1") == data


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB])
def test_bodies_up_to_the_limit(start: Any, size: int) -> None:
    with start(front={"max_body": 64 * KIB}) as front:
        assert front.ask("/echo", "POST", b"x" * size).json["length"] == size


def test_bodies_above_the_limit(start: Any) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    last = b"0\r\n\r\n"
    with start(front={"max_body": 64 * KIB}) as front:
        refused = front.ask("/echo", "POST", b"x" * (64 * KIB + 1))
        assert refused.status == 413 and "--max-body" in refused.json["error"]["message"]
        assert front.raw(head + b"Content-Length: %d\r\n\r\n" % (1 << 40)).startswith(b"HTTP/1.1 413")
        assert front.raw(chunked + piece * 17 + last).startswith(b"HTTP/1.1 413")
        assert front.raw(chunked + piece * 16 + last).startswith(b"HTTP/1.1 200")
        assert front.state()["running"] == 0


def test_no_100_continue_for_a_body_that_will_be_refused(start: Any) -> None:
    with start(front={"max_body": 10, "api_keys": ("k",)}) as front:
        ask = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: 100-continue\r\n%s\r\n"
        assert front.raw(ask % (11, b"X-Api-Key: k\r\n")).startswith(b"HTTP/1.1 413")
        assert front.raw(ask % (4, b"")).startswith(b"HTTP/1.1 401")


def test_the_makers_system_prompt(start: Any) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    own = json.dumps({"messages": [{"role": "system", "content": "Own."}]})
    with start(prompt="Be brief.") as front:

        def arrived(path: str, text: str, **headers: str) -> Any:
            return json.loads(front.ask(path, "POST", text, **headers).json["body"])

        assert arrived("/v1/chat/completions", body)["messages"][0] == {"role": "system", "content": "Be brief."}
        assert arrived("/v1/chat/completions?x=1", body)["messages"][0]["content"] == "Be brief."
        assert arrived("/v1/messages", body)["system"] == "Be brief."
        assert arrived("/v1/chat/completions", own) == json.loads(own)
        assert arrived("/tokenize", body) == json.loads(body)
        from_page = {"Origin": f"http://localhost:{front.port}", "Host": f"localhost:{front.port}"}
        assert arrived("/v1/chat/completions", body, **from_page) == json.loads(body)
        assert front.ask("/v1/chat/completions", "POST", b"no json").json["body"] == "no json"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/chat/completion%73", {}),
        ("/v1/chat/completion%u0073", {}),
        ("/%76%31/chat%2Fcompletions?x=1", {}),
        ("/v1/chat/completions#x", {}),
        ("/v1/chat/completions", {"Content_Encoding": "identity"}),
        ("/v1/chat/completions", {"Content_Encoding": "UTF-8"}),
    ],
)
def test_no_way_of_asking_leaves_the_makers_words_out(start: Any, path: str, headers: dict[str, str]) -> None:
    asked = [{"role": "user", "content": "hello"}]
    shown = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    with start(prompt="Be brief.", messages=shown) as front:
        found = front.ask(path, "POST", json.dumps({"messages": asked}), **headers).json
        arrived = json.loads(found["body"])["messages"]
        assert arrived == [{"role": "system", "content": "Be brief."}, *shown, *asked]
        assert found["path"] == path.partition("#")[0]


def test_a_compressed_body_is_left_to_the_engine(start: Any) -> None:
    import gzip

    data = gzip.compress(json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode(), mtime=0)
    with start(prompt="Be brief.") as front:
        found = front.ask("/v1/chat/completions", "POST", data, Content_Encoding="gzip").json
        assert found["body"].encode("latin-1") == data and ["Content-Encoding", "gzip"] in found["headers"]


def test_the_makers_messages_are_for_the_page_too(start: Any) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    shown = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    with start(prompt="Be brief.", messages=shown) as front:
        from_page = {"Origin": f"http://localhost:{front.port}", "Host": f"localhost:{front.port}"}
        own = json.loads(body)["messages"]
        arrived = json.loads(front.ask("/v1/chat/completions", "POST", body).json["body"])["messages"]
        assert arrived == [{"role": "system", "content": "Be brief."}, *shown, *own]
        arrived = json.loads(front.ask("/v1/chat/completions", "POST", body, **from_page).json["body"])["messages"]
        assert arrived == [*shown, *own]


def test_fifty_at_once(front: Any) -> None:
    connections = [ask_raw(front, "/generate?pieces=3&seconds=0.1") for _ in range(50)]
    try:
        begun = time.monotonic()
        for connection in connections:
            read_events(connection, 3)
        assert time.monotonic() - begun < 5
    finally:
        for connection in connections:
            connection.close()
