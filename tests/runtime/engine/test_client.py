"""The engine's errors in this program's words, against a socket that says what it is told."""

import os
import socket
import threading

import pytest

from mkllm.runtime.engine.answer import Figures, Piece, chat, continuation
from mkllm.runtime.engine.client import Client, refusal
from mkllm.runtime.errors import EngineDied, PromptTooLong, RequestRefused

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
END = b'data: {"choices":[],"timings":{"predicted_n":1},"usage":{"prompt_tokens":9}}\n\ndata: [DONE]\n\n'


@pytest.fixture
def engine():
    """`engine(data)`: a client of a socket that answers one request with these bytes, and closes."""
    opened = []

    def answering(data):
        address = f"\0mkllm-test-{os.urandom(8).hex()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        opened.extend([thread.join, listener.close])
        client = Client(address, "key")
        opened.insert(0, client.close)
        return client

    yield answering
    for close in opened:
        close()


def test_pieces_thoughts_and_figures(engine):
    stream = b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n: ping\n\n'
    stream += b'data: {"choices":[{"delta":{"content":"yes"},"finish_reason":"length"}]}\n\n'
    pieces = list(chat(engine(HEAD + stream + END), [], {}))
    assert pieces == [Piece("hm", True), Piece("yes"), Figures("length", 9, 1, 0.0, 0.0)]


def test_continuations(engine):
    stream = b'data: {"content":"on","stop":false}\n\n'
    stream += (
        b'data: {"content":"","stop":true,"stop_type":"eos","timings":{"prompt_n":2,"cache_n":3,"predicted_n":1}}\n\n'
    )
    assert list(continuation(engine(HEAD + stream), "go", {})) == [Piece("on"), Figures("stop", 5, 1, 0.0, 0.0)]


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-", HEAD, HEAD + b'data: {"choices":[]}\n\n', b"nonsense\r\n\r\n"]
)
def test_an_answer_that_is_cut_is_a_death(engine, data):
    with pytest.raises(EngineDied):
        list(chat(engine(data), [], {}))


@pytest.mark.parametrize("event", [b'data: {"error":{"message":"oh"}}', b'error: {"message":"oh"}'])
def test_an_error_in_the_middle(engine, event):
    with pytest.raises(RequestRefused, match="refused the request: oh"):
        list(chat(engine(HEAD + event + b"\n\n"), [], {}))


def test_nobody_there():
    with Client("\0mkllm-test-nobody", "key") as client, pytest.raises(EngineDied):
        client.get("/props")


def test_refusals():
    long = {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4, "message": "m"}}
    assert isinstance(refusal(long), PromptTooLong)
    for answer in ({"error": {"message": "bad\n thing"}}, {"error": "bad thing"}, "bad thing"):
        assert str(refusal(answer)) == "the engine refused the request: bad thing"
