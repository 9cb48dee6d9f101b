"""Who may ask: a table of Host, Origin and Sec-Fetch headers, and API keys."""

import socket

import pytest

from mkllm.runtime.front.guard import guard, same_origin, split_host

OWN = socket.gethostname()


def refused(
    method: str = "POST", page: bool = False, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), **headers: str
) -> int | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = guard("127.0.0.1", (), hosts, origins).refusal(method, page, named)
    return refusal.status if refusal else None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST:8080",
        "localhost.:8080",
        "chat.localhost:8080",
        "127.0.0.1",
        "127.0.0.1:8080",
        "192.168.1.7:80",
        "[::1]:8080",
        "[::1]",
        "[fe80::1%25eth0]:8080",
        OWN,
        f"{OWN}:8080",
        f"{OWN.partition('.')[0]}.local:8080",
        OWN.upper(),
    ],
)
def test_hosts_that_are_this_machine(host: str) -> None:
    assert refused(Host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8080",
        "evil-localhost",
        "local",
        "",
        ":8080",
        "1.2.3",
        "[::1",
        "[evil]:80",
        "localhost:evil",
        "localhost:80:80",
        "localhost@evil.example",
        "127.1",
        "0x7f000001",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    assert refused(Host=host) == 403


def test_hosts_that_are_given() -> None:
    assert refused(Host="model.lan:8080", hosts=("model.lan",)) is None
    assert refused(Host="model.lan:8080", hosts=("MODEL.lan:9",)) is None
    assert refused(Host="other.lan", hosts=("model.lan",)) == 403
    assert refused(Host="other.lan", hosts=("*",)) is None
    assert guard("box.lan", (), (), ()).refusal("GET", True, {"Host": "box.lan:8080"}) is None


def test_a_client_of_http_1_0_sends_no_host() -> None:
    assert refused() is None


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8080", "http://localhost:8080", None),
        ("LocalHost:8080", "http://localhost:8080", None),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", None),
        ("[::1]:8080", "http://[::1]:8080", None),
        ("localhost", "http://localhost", None),
        ("localhost:80", "http://localhost", None),
        ("localhost", "https://localhost", None),
        ("localhost:8080", "http://localhost:3000", 403),
        ("localhost:8080", "http://localhost", 403),
        ("localhost:8080", "http://127.0.0.1:8080", 403),
        ("localhost:8080", "https://evil.example", 403),
        ("localhost:8080", "http://localhost:8080.evil.example", 403),
        ("localhost:8080", "null", 403),
        ("localhost:8080", "", 403),
        ("localhost:8080", "chrome-extension://abcdef", 403),
        ("localhost:8080", "file://", 403),
    ],
)
def test_origins(host: str, origin: str, status: int | None) -> None:
    assert refused(Host=host, Origin=origin) == status
    assert refused(Host=host, Origin=origin, method="GET", page=True) == status


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://app.example", "https://app.example", None),
        ("https://app.example/", "https://app.example", None),
        ("HTTPS://App.example", "https://app.example", None),
        ("*", "https://app.example", None),
        ("null", "null", None),
        ("https://app.example", "http://app.example", 403),
        ("https://app.example", "https://app.example:8443", 403),
        ("app.example", "https://app.example", 403),
    ],
)
def test_origins_that_are_given(allowed: str, origin: str, status: int | None) -> None:
    assert refused(Host="localhost:8080", Origin=origin, origins=(allowed,)) == status


@pytest.mark.parametrize(
    ("site", "mode", "dest", "method", "page", "status"),
    [
        ("same-origin", "cors", "empty", "POST", False, None),
        ("none", "navigate", "document", "GET", True, None),
        ("none", "navigate", "document", "GET", False, None),
        ("cross-site", "navigate", "document", "GET", True, None),
        ("same-site", "navigate", "document", "GET", True, None),
        ("cross-site", "navigate", "document", "POST", True, 403),
        ("cross-site", "navigate", "document", "GET", False, 403),
        ("cross-site", "navigate", "iframe", "GET", True, 403),
        ("cross-site", "no-cors", "image", "GET", True, 403),
        ("cross-site", "no-cors", "script", "GET", False, 403),
        ("same-site", "no-cors", "image", "GET", False, 403),
        ("cross-site", "cors", "empty", "POST", False, 403),
    ],
)
def test_sites_without_an_origin(site: str, mode: str, dest: str, method: str, page: bool, status: int | None) -> None:
    headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
    assert refused(Host="localhost", method=method, page=page, **headers) == status


def test_an_allowed_origin_counts_more_than_its_site() -> None:
    headers = {"Host": "localhost", "Origin": "https://app.example", "Sec_Fetch_Site": "cross-site"}
    assert refused(**headers, origins=("https://app.example",)) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic one"}, 401),
        ({"Authorization": "Bearer one extra"}, 401),
        ({"X-Api-Key": "wrong"}, 401),
        ({"Authorization": "Bearer wrong", "X-Api-Key": "one"}, 401),
        ({"Authorization": "Bearer \xfc"}, 401),
        ({"Authorization": "Bearer \udcff"}, 401),
        ({"Authorization": "Bearer one"}, None),
        ({"Authorization": "Bearer two"}, None),
        ({"X-Api-Key": "two"}, None),
    ],
)
def test_keys(headers: dict[str, str], status: int | None) -> None:
    refusal = guard("127.0.0.1", ("one", "two"), (), ()).wrong_key(headers)
    assert (refusal.status if refusal else None) == status
    assert guard("127.0.0.1", (), (), ()).wrong_key(headers) is None


def test_only_foreign_origins_are_told_that_they_may() -> None:
    allowing = guard("127.0.0.1", (), (), ("https://app.example",))
    assert allowing.foreign_origin({"Host": "localhost", "Origin": "https://app.example"}) == "https://app.example"
    assert allowing.foreign_origin({"Host": "localhost", "Origin": "http://localhost"}) is None
    assert allowing.foreign_origin({"Host": "localhost", "Origin": "https://evil.example"}) is None
    assert allowing.foreign_origin({"Host": "localhost"}) is None


def test_parts_of_a_host() -> None:
    assert split_host("A.b:80") == ("a.b", 80)
    assert split_host("[::1]:80") == ("::1", 80)
    assert split_host("::1") == ("::1", None)
    assert split_host("a.") == ("a", None)
    assert not same_origin("http://", "")
