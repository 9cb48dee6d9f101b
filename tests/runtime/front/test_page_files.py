"""The chat page's files: compressed or not, kept by browsers, confined to this server."""

import gzip
from typing import Any

import pytest

from mkllm.runtime.front.page import accepts_gzip, is_known

BUNDLE = "/_app/immutable/bundle.abc.js"


def test_the_page_is_compressed_for_who_takes_it(front: Any) -> None:
    packed = front.ask("/", Accept_Encoding="gzip, deflate, br")
    plain = front.ask("/", Accept_Encoding="identity")
    assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body and plain.body.startswith(b"<!doctype html>")
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert front.ask("/index.html").body == plain.body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        (BUNDLE, "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ],
)
def test_types_and_confinement(front: Any, path: str, kind: str) -> None:
    headers = front.ask(path).headers
    assert headers["Content-Type"] == kind and headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy


def test_what_never_changes_is_kept_forever_and_the_rest_asked_for_again(front: Any) -> None:
    assert "immutable" in front.ask(BUNDLE).headers["Cache-Control"]
    assert front.ask("/").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_not_modified(front: Any, encoding: str) -> None:
    first = front.ask("/", Accept_Encoding=encoding)
    again = front.ask("/", Accept_Encoding=encoding, If_None_Match=f'"x", W/{first.headers["ETag"]}')
    assert again.status == 304 and again.body == b"" and again.headers["ETag"] == first.headers["ETag"]
    assert front.ask("/", Accept_Encoding=encoding, If_None_Match='"other"').status == 200


def test_head(front: Any) -> None:
    answer = front.ask(BUNDLE, "HEAD", Accept_Encoding="gzip")
    assert (
        answer.body == b""
        and answer.headers["Content-Encoding"] == "gzip"
        and int(answer.headers["Content-Length"]) > 10
    )


@pytest.mark.parametrize("path", ["/favicon.ico", "/_app/immutable/other.js", "/robots.txt"])
def test_what_browsers_ask_for_unasked_is_absent(front: Any, path: str) -> None:
    assert front.ask(path).status == 404


def test_another_servers_service_worker_is_removed(front: Any) -> None:
    answer = front.ask("/sw.js")
    assert (
        answer.status == 200
        and b"unregister" in answer.body
        and answer.headers["Content-Type"].startswith("text/javascript")
    )


def test_the_page_is_there_while_the_model_loads(start: Any) -> None:
    with start(engine={"load_seconds": 30}, ready=False) as front:
        assert front.ask("/").status == 200 and front.ask(BUNDLE).status == 200


def test_a_link_from_elsewhere_leads_to_the_page_and_nowhere_else(front: Any) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert front.ask("/", **link).status == 200
    assert front.ask("/v1/models", **link).status == 403


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("br", False),
    ],
)
def test_accept_encoding(header: str, taken: bool) -> None:
    assert accepts_gzip(header) is taken


def test_if_none_match() -> None:
    assert is_known('"a"', '"a"') and is_known('"a"', 'W/"a"') and is_known('"a"', '"b", "a"') and is_known('"a"', "*")
    assert not is_known('"a"', "") and not is_known('"a"', '"b"')
