"""Models at a web address: kept, checked against a hash that the user gives, and asked for again when they change."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import HubFailure, ModelNotFound, NoSpace, WrongHash
from mkllm.builder.model import address
from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
FILE = "small-Q8_0.gguf"


@pytest.fixture
def url(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of the file, at a server that is no hub."""
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    hub.etag = '"1"'
    return f"{hub.url}/cdn/org/model/{FILE}"


def test_a_file_is_downloaded_once(url: str, hub: Any, small_gguf: Path) -> None:
    source = resolve(url, QUIET)
    assert source.path.read_bytes() == small_gguf.read_bytes() and source.name == "small-Q8_0"
    assert (source.origin.source, source.origin.reference, source.origin.file) == ("url", url, FILE)
    sent = hub.sent[FILE]
    assert resolve(url, QUIET).path == source.path and hub.sent[FILE] == sent
    assert all(token is None for token in hub.tokens)


def test_a_file_that_changed_is_downloaded_again(url: str, hub: Any, gguf_bytes: Any) -> None:
    resolve(url, QUIET)
    hub.repositories["org/model"].files[FILE] = data = gguf_bytes(seed=5)
    hub.etag = '"2"'
    assert resolve(url, QUIET).path.read_bytes() == data


def test_a_hash_may_be_given(url: str, small_gguf: Path) -> None:
    digest = hashlib.sha256(small_gguf.read_bytes()).hexdigest()
    assert resolve(f"{url}#sha256={digest}", QUIET).origin.sha256 == digest
    with pytest.raises(WrongHash, match="the hub promises 0{64}"):
        resolve(f"{url}?other#sha256={'0' * 64}", QUIET)


def test_a_hash_behind_an_address_of_the_hub(hub: Any, small_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(small_gguf.read_bytes()).hexdigest()
    text = f"https://huggingface.co/org/model/resolve/main/{FILE}"
    with pytest.raises(WrongHash, match=f"has the hash {digest} on the hub, and 0{{64}} is demanded"):
        resolve(f"{text}#sha256={'0' * 64}", QUIET)
    assert not hub.sent
    source = resolve(f"{text}#sha256={digest.upper()}", QUIET)
    assert source.origin.sha256 == digest and source.origin.source == "hf"
    with pytest.raises(ModelNotFound, match="has 'sha256=12' behind its address, which is no hash"):
        resolve(f"{text}#sha256=12", QUIET)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve(f"{text}#sha256={digest}", QUIET).path == source.path
    with pytest.raises(WrongHash):
        resolve(f"{text}#sha256={'0' * 64}", QUIET)


def test_a_hash_where_the_hub_promises_none(hub: Any, small_gguf: Path, kit_cache: Path, tmp_path: Path) -> None:
    """Of small files it tells git's: what is demanded is compared when the file is read."""
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults

    data = small_gguf.read_bytes()
    hub.faults.told_hash = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    text = f"https://huggingface.co/org/model/resolve/main/{FILE}#sha256="
    request = Request(text + "0" * 64, tmp_path / "out", None, None, Defaults(), False)
    with pytest.raises(WrongHash):
        build(request, QUIET)
    assert not request.path or not request.path.exists()
    assert resolve(text + hashlib.sha256(data).hexdigest(), QUIET).origin.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("host", ["https://huggingface.co/org/model/resolve/main", "http://127.0.0.1:9"])
def test_a_hash_of_one_file_does_not_do_for_parts(host: str, hub: Any) -> None:
    with pytest.raises(ModelNotFound, match="is in 2 files, and #sha256=… behind an address is the hash of one: leave"):
        resolve(f"{host}/big-00001-of-00002.gguf#sha256={'0' * 64}", QUIET)
    assert hub.log == []


@pytest.mark.parametrize(
    "text",
    [
        "https://[bad", "https://[bad/x.gguf", "https://[::1]x/x.gguf", "https://h:abc/x.gguf", "https://h:99999/x.gguf",
        "https://h:0/x.gguf", f"https://{'a' * 70}.example/x.gguf", "https://ü..xx/x.gguf", "https:///x.gguf",
        "https://h/x.gguf?\x01", "http://\u2100/x.gguf", "https://\U0001f600.example/x.gguf",
        "https://huggingface.co:bad/a/b",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ModelNotFound, match="is no address.*: write https://host/path/model.gguf"):
        resolve(text, QUIET)


def test_names_that_cannot_be_kept(url: str) -> None:
    with pytest.raises(ModelNotFound, match="called too long to be kept: download it yourself, and name the file"):
        resolve(url.replace(FILE, "x" * 300 + ".gguf"), QUIET)
    with pytest.raises(ModelNotFound, match="is not the address of a GGUF file"):
        resolve(url.replace(FILE, "x%00.gguf"), QUIET)


def test_what_may_be_secret_is_not_told(url: str) -> None:
    source = resolve(url.replace("http://", "http://me:word@") + "?key=secret", QUIET)
    assert source.origin.reference == url


def test_all_parts_are_fetched(url: str, hub: Any, gguf_bytes: Any) -> None:
    files = hub.repositories["org/model"].files
    for number, name in enumerate(("one", "two")):
        keys = {"split__no": number, "split__count": 2, "split__tensors__count": 2} | ({"keys": {}} if number else {})
        files[f"big-{number + 1:05}-of-00002.gguf"] = gguf_bytes(tensors={name: ((64, 3), 8)}, **keys)
    source = resolve(url.replace(FILE, "big-00001-of-00002.gguf"), QUIET)
    assert source.name == "big" and len(source.weights.files) == 2


def test_a_cut_connection_is_resumed(url: str, hub: Any, small_gguf: Path) -> None:
    hub.faults.cuts = [1000]
    assert resolve(url, QUIET).path.read_bytes() == small_gguf.read_bytes()
    assert ("GET", f"/cdn/org/model/{FILE}", "bytes=1000-") in hub.log


def test_what_is_left_of_another_file_is_not_gone_on_with(url: str, hub: Any, gguf_bytes: Any) -> None:
    resolve(url, QUIET)
    [kept] = Path(os.environ["MKLLM_CACHE"]).rglob(FILE)
    kept.rename(kept.with_name(FILE + ".mkllm-incomplete")).write_bytes(b"the beginning of another")
    hub.repositories["org/model"].files[FILE] = data = gguf_bytes(seed=5)
    hub.etag = '"2"'
    assert resolve(url, QUIET).path.read_bytes() == data


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((FILE, "page.html"), "is not the address of a GGUF file: write https://host/path/model.gguf"),
        ((FILE, f"{FILE}#sha1=1"), "has 'sha1=1' behind its address, which is no hash"),
        (("/cdn/", "/none/"), "there is nothing at"),
    ],
)
def test_addresses_that_are_wrong(change: tuple[str, str], why: str, url: str) -> None:
    with pytest.raises(ModelNotFound, match=why):
        resolve(url.replace(*change), QUIET)


def test_servers_that_fail(url: str, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.status = 403
    with pytest.raises(HubFailure, match="answered 403: download it yourself, and name the file"):
        resolve(url, QUIET)
    hub.faults.status = 0
    hub.faults.unavailable = 10**6
    with pytest.raises(HubFailure, match="answered 503, 5 times in a row"):
        resolve(url, QUIET)
    with pytest.raises(HubFailure, match="could not be reached"):
        resolve("http://127.0.0.1:9/x.gguf", QUIET)


def test_offline(url: str, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = resolve(url, QUIET).path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.log.clear()
    assert resolve(url, QUIET).path == path and hub.log == []
    with pytest.raises(HubFailure, match="forbids it: leave that away, or download it elsewhere and name the file"):
        resolve(url + "?other", QUIET)


def test_no_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255)))
    with pytest.raises(NoSpace, match="no space for 'small-Q8_0.gguf'"):
        resolve(url, QUIET)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("https://huggingface.co/a/b", Reference("a/b", None)),
        ("https://huggingface.co/a/b/resolve/main/c.gguf?download=true", Reference("a/b", "c.gguf")),
        ("https://hf.co/a/b/blob/v1/d/c.gguf", Reference("a/b", "d/c.gguf", "v1")),
        ("https://example.org/a/b/resolve/main/c.gguf", None),
        ("https://huggingface.co/a/b/tree/main", None),
    ],
)
def test_addresses_of_the_hub_are_references(text: str, reference: Reference | None) -> None:
    assert address.on_hub(text) == reference
