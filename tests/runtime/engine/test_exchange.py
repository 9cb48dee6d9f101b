"""One request and its answer, in every form that an answer can have."""

import os
import socket
import threading
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mkllm.runtime.engine.exchange import Cut, Exchange

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answered(data, asked=None):
    """An exchange with a server that answers with these bytes, and closes; what it was sent goes into `asked`."""
    address = f"\0mkllm-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                sent = connection.recv(65536)
                if asked is not None:
                    asked.append(sent)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            exchange = Exchange(address, "POST", "/x", {"A": "b"}, b"body")
            try:
                yield exchange
            finally:
                exchange.close()
        finally:
            thread.join()


def test_what_is_sent():
    asked = []
    with answered(OK + b"\r\n", asked):
        pass
    assert asked == [
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\nA: b\r\n\r\nbody"
    ]


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9\r\n\r\none\ntwo\n\n",
        b"\r\none\ntwo\n\n",
        b"TRANSFER-ENCODING: Chunked\r\n\r\n2;x=y\r\non\r\n7\r\ne\ntwo\n\n\r\n0\r\n\r\n",
    ],
)
def test_bodies(rest):
    with answered(OK + rest) as exchange:
        assert (exchange.status, exchange.read()) == (200, b"one\ntwo\n\n")
    with answered(OK + rest) as exchange:
        assert list(exchange.lines()) == [b"one", b"two", b""]


def test_a_last_line_without_an_end():
    with answered(OK + b"\r\none\ntwo") as exchange:
        assert list(exchange.lines()) == [b"one", b"two"]


@pytest.mark.parametrize(
    "data", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA:", b"x" * 99999]
)
def test_no_answer(data):
    with pytest.raises((Cut, ConnectionError)), answered(data):
        pass


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9\r\n\r\none",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\none",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nlong\r\none\r\n",
    ],
)
def test_a_body_that_is_cut(rest):
    with answered(OK + rest) as exchange, pytest.raises(Cut):
        exchange.read()


def test_nobody_listens():
    with pytest.raises(ConnectionRefusedError):
        Exchange("\0mkllm-test-nobody", "GET", "/", {}, b"")


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=50)))
def test_chunks_anywhere_give_the_same_bytes(pieces):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    with answered(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n") as exchange:
        assert exchange.read() == b"".join(pieces)
