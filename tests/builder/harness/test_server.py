"""What the evaluation asks of a server, and what it says of one that does not answer as an artifact does."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mkllm.builder.errors import NoAnswer
from mkllm.builder.harness.server import LEAST, Facts, Server, is_address

Answers = dict[str, Callable[[dict[str, Any]], tuple[int, Any]]]
PROPERTIES = {
    "default_generation_settings": {"n_ctx": 64},
    "total_slots": 2,
    "bos_token": None,
    "eos_token": "</s>",
    "chat_template": "",
}
MODELS = {"data": [{"id": "small", "meta": {"n_vocab": 4}}]}
FACTS = Facts("small", 64, 2, 4, "", "</s>", "")
# Probabilities of four tokens; the engine never tells of the second, which is a part of a character.
SHARES = [0.5, 0.3, 0.2, 0.0]
PARTIAL, END = 1, 2


@pytest.fixture
def playing() -> Iterator[Callable[[Answers], Server]]:
    """`playing(answers)`: a server that answers by path."""
    running: list[ThreadingHTTPServer] = []
    asking: list[Server] = []

    def play(answers: Answers) -> Server:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, told = answers[self.path](json.loads(body or b"{}"))
                data = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(served)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        asking.append(Server(f"http://127.0.0.1:{served.server_port}/v1"))
        return asking[-1]

    yield play
    for server in asking:
        server.close()
    for served in running:
        served.shutdown()
        served.server_close()


def complete(body: dict[str, Any]) -> tuple[int, Any]:
    """As the engine does it: the token with the bias is taken, probabilities are those without it."""
    ((token, _),) = body["logit_bias"]
    if token == PARTIAL:
        return 200, {"content": ""}

    def row(number: int) -> dict[str, Any]:
        share = SHARES[number]
        return {"id": number, "logprob": math.log(share) if share else -3.4e38}

    order = sorted(range(4), key=lambda number: -SHARES[number])
    top = [row(number) for number in order[: body["n_probs"]]]
    return 200, {"completion_probabilities": [{**row(token), "top_logprobs": top}]}


@pytest.mark.parametrize(
    "text,is_one",
    [
        ("http://127.0.0.1:8080", True),
        ("https://example.com/v1/", True),
        ("https://example.com/model.gguf", False),
        ("hf:org/repo", False),
        ("./demo", False),
        ("http://", False),
        ("HTTP://[::1]:8080", True),
        ("http://u:secret@example.com", True),
        ("//[x", False),
    ],
)
def test_addresses_of_servers(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one


@pytest.mark.parametrize("text", ["http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:65536", "http://[x]:1"])
def test_addresses_that_cannot_be_right(text: str) -> None:
    with pytest.raises(NoAnswer) as failure:
        is_address(text)
    assert str(failure.value) == f"{text!r} is no address: write it like http://127.0.0.1:8080"
    assert failure.value.exit_code == 29


def test_no_password_is_shown() -> None:
    for address in ("http://u:secret@127.0.0.1:9/v1", "http://u:sec@ret@127.0.0.1:9"):
        with pytest.raises(NoAnswer, match=r"^'http://127\.0\.0\.1:9' does not answer \(connection refused\)"):
            Server(address).facts()
    for address in ("http://u:secret@127.0.0.1:abc", "http://u:sec/ret@127.0.0.1"):
        with pytest.raises(NoAnswer, match="is no address") as failure:
            is_address(address)
        assert "sec" not in str(failure.value)


def test_a_name_that_is_none() -> None:
    with pytest.raises(NoAnswer, match="does not answer"):
        Server(f"http://{'a' * 70}.invalid").facts()


def test_what_a_server_says_of_itself(playing: Callable[[Answers], Server]) -> None:
    assert playing({"/props": lambda _: (200, PROPERTIES), "/v1/models": lambda _: (200, MODELS)}).facts() == FACTS


@pytest.mark.parametrize(
    "token,logarithm,likeliest",
    [
        (0, math.log(0.5), True),
        (END, math.log(0.2), False),
        (PARTIAL, math.log(0.3), False),
        (3, LEAST, False),
    ],
)
def test_scores(playing: Callable[[Answers], Server], token: int, logarithm: float, likeliest: bool) -> None:
    server = playing({"/completion": complete})
    assert server.score([0], token, 0, FACTS, END) == (pytest.approx(logarithm), likeliest)


@pytest.mark.parametrize(
    "answer,sentence",
    [
        ((401, {"error": {"message": "no"}}), "demands a key: give it with --api-key"),
        (
            (501, {"error": {"message": "It serves embeddings."}}),
            "does not answer /props (501: It serves embeddings): ",
        ),
        ((200, b"<html>"), "does not answer /props (200: it gives no reason)"),
        ((200, {"name": "another"}), "is no artifact's server"),
        ((503, b""), "does not answer /props (503: it gives no reason)"),
    ],
)
def test_what_does_not_answer_as_an_artifact(
    playing: Callable[[Answers], Server], answer: tuple[int, Any], sentence: str
) -> None:
    server = playing({"/props": lambda _: answer, "/v1/models": lambda _: (200, MODELS)})
    with pytest.raises(NoAnswer) as failure:
        server.facts()
    assert sentence in str(failure.value) and failure.value.exit_code == 29


def test_an_engine_that_tells_no_probabilities(playing: Callable[[Answers], Server]) -> None:
    with pytest.raises(NoAnswer, match="tells no probability of the token 0"):
        playing({"/completion": lambda _: (200, {"content": "x"})}).score([0], 0, 0, FACTS, END)


def test_nobody_listens() -> None:
    with pytest.raises(NoAnswer, match=r"'http://127\.0\.0\.1:9' does not answer \(connection refused\)"):
        Server("http://127.0.0.1:9/").facts()


def test_after_its_end_nothing_is_asked(playing: Callable[[Answers], Server]) -> None:
    server = playing({"/props": lambda _: (200, PROPERTIES), "/v1/models": lambda _: (200, MODELS)})
    server.facts()
    server.stop()
    with pytest.raises(NoAnswer):
        server.facts()
