"""What a front answers whose model makes embeddings: how it is asked, instead of a chat page; and refusals."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(
    scope="module", params=[("mean", "an embedding", "/v1/embeddings"), ("rank", "a reranking", "/v1/rerank")]
)
def served(start: Any, request: pytest.FixtureRequest) -> Iterator[tuple[Any, str, str]]:
    pooling, kind, path = request.param
    with start(pooling=pooling) as front:
        yield front, kind, path


def test_the_page_says_how_it_is_asked(served: tuple[Any, str, str]) -> None:
    front, kind, path = served
    for place in ("/", "/index.html"):
        answer = front.ask(place)
        text = answer.body.decode()
        assert answer.status == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert f"This is {kind} model, which answers no prompts." in text
        assert f"curl http://127.0.0.1:{front.port}{path} " in text and "<title>echo</title>" in text
        assert "frame-ancestors" in answer.headers["Content-Security-Policy"]


def test_the_host_is_shown_as_text(served: tuple[Any, str, str]) -> None:
    front = served[0]
    answer = front.ask("/", Host="localhost")
    assert b"curl http://localhost/v1/" in answer.body and b"<script" not in answer.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/%63ompletions", "/v1/messages?x=1", "/v1/responses"])
def test_what_generates_is_refused(served: tuple[Any, str, str], path: str) -> None:
    front, kind, asked = served
    answer = front.ask(path, "POST", b"{}")
    assert answer.status == 400
    sentence = f"this is {kind} model, which answers no prompts: start it and ask {asked}"
    assert answer.json["error"] == {"message": sentence, "type": "invalid_request_error", "code": 400}


def test_everything_else_is_the_engines(served: tuple[Any, str, str]) -> None:
    assert served[0].ask("/echo", "POST", b"text").json["body"] == "text"


def test_the_banner(served: tuple[Any, str, str]) -> None:
    front, kind, path = served
    lines = front.output.splitlines()
    noun = f"{kind.split()[1]} model"
    assert lines[0] == f"echo: http://127.0.0.1:{front.port} says how to ask this {noun}; Ctrl-C stops it"
    assert lines[1] == f"  API     http://127.0.0.1:{front.port}{path}, without a key"
