"""Ports and addresses: the one asked for, the next free one, and sentences for what cannot be."""

import os
import socket
from contextlib import closing

import pytest

from mkllm.runtime.errors import CannotListen
from mkllm.runtime.front.listen import Listening, listen


def on(host: str, port: int = 0) -> "closing[Listening]":
    return closing(listen(host, port))


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_any_port() -> None:
    with on("127.0.0.1") as listening:
        assert listening.port > 0 and not listening.moved and not listening.public
        assert listening.url == f"http://127.0.0.1:{listening.port}" and reaches("127.0.0.1", listening.port)


def test_the_next_free_port() -> None:
    with on("127.0.0.1") as first, on("127.0.0.1", first.port) as second:
        assert second.moved and first.port < second.port <= first.port + 20
        assert not first.moved


def test_that_port_or_none() -> None:
    with on("127.0.0.1") as first, pytest.raises(CannotListen, match=f"port {first.port} of '127.0.0.1' is taken"):
        listen("127.0.0.1", first.port, only=True)


def test_the_port_is_free_again_at_once() -> None:
    with on("127.0.0.1") as first:
        port = first.port
        with socket.create_connection(("127.0.0.1", port)):
            first.sockets[0].setblocking(True)
            first.sockets[0].accept()[0].close()
    with on("127.0.0.1", port) as again:
        assert again.port == port


def test_no_free_port() -> None:
    with on("127.0.0.1", 65535) as last, pytest.raises(CannotListen, match="no port from 65535 to 65535 is free"):
        listen("127.0.0.1", last.port)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(host: str) -> None:
    with on(host) as listening:
        assert listening.url == f"http://[::1]:{listening.port}" and reaches("::1", listening.port)
        assert not listening.public and not reaches("127.0.0.1", listening.port)


def test_everywhere() -> None:
    with on("0.0.0.0") as listening:
        assert listening.public and listening.url == f"http://127.0.0.1:{listening.port}"


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_everywhere_in_both_families(host: str) -> None:
    with on(host) as listening:
        assert listening.public and listening.url == f"http://[::1]:{listening.port}"
        assert reaches("127.0.0.1", listening.port) and reaches("::1", listening.port)


def test_a_name_listens_on_all_its_addresses_on_one_port() -> None:
    with on("localhost") as listening:
        assert {each.getsockname()[1] for each in listening.sockets} == {listening.port}
        assert listening.url == f"http://localhost:{listening.port}" and not listening.public


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(CannotListen, match="'no.such.invalid' is not known"):
        listen("no.such.invalid", 0)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(CannotListen, match="'192.0.2.1' is no address of this machine"):
        listen("192.0.2.1", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every port")
def test_a_port_that_needs_privileges() -> None:
    with pytest.raises(CannotListen, match="choose --port 1024 or above"):
        listen("127.0.0.1", 1)
