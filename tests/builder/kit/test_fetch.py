"""Kits out of a real index: a server of the tests' own that speaks the simple repository API, asked by the real pip."""

import functools
import hashlib
import http.server
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mkllm.builder import cli
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import all_kits, find_kit
from mkllm.builder.kit.wheel import write_wheel
from mkllm.builder.version import version

NAME = "mkllm-kit-linux-x86-64"
Run = Callable[..., int]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def mkllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `mkllm kit` in this process, with a cache of its own, and with no settings of pip's but the tests'."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    return lambda *args: cli._run(["kit", *map(str, args)])


@pytest.fixture
def wheel(small_kit: Kit, tmp_path: Path) -> Path:
    return write_wheel(small_kit, version(), tmp_path / "dist")


@pytest.fixture
def index(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is served as an index, with the wheel in it; pip is set up with it."""
    root = tmp_path / "index"
    pages = root / "simple" / NAME
    pages.mkdir(parents=True)
    os.link(wheel, pages / wheel.name)
    promise(pages, hashlib.sha256(wheel.read_bytes()).hexdigest())
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
        yield pages
        server.shutdown()


def promise(pages: Path, sha256: str) -> None:
    links = (f'<a href="{file.name}#sha256={sha256}">{file.name}</a>' for file in pages.glob("*.whl"))
    (pages / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


def refused(capfd: pytest.CaptureFixture[str], *texts: str) -> None:
    *notes, last = capfd.readouterr().err.strip().splitlines()
    assert len(notes) == 1 and notes[0].startswith("fetching the kit for ") and last.startswith("mkllm: ")
    assert all(text in last for text in texts), last


def rewrite(wheel: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    with zipfile.ZipFile(wheel) as old:
        contents = {name: change(name, old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(wheel, "w") as new:
        for name, data in contents.items():
            if data is not None:
                new.writestr(name, data)


def test_from_an_index(mkllm: Run, index: Path, small_kit: Kit, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("fetch", "linux-x86_64") == 0
    kit = find_kit("linux-x86_64")
    assert capfd.readouterr().out == f"kit {small_kit.id} for linux-x86_64: {kit.path}\n"
    assert (kit.id, kit.files) == (small_kit.id, small_kit.files)
    kit.verify()
    assert os.access(kit.engine, os.X_OK) and not os.access(kit.path / "runtime.pkg", os.X_OK)
    assert mkllm("fetch", "linux-x86_64") == 0 and len(all_kits()[0]) == 1
    assert sorted(path.name for path in kit.path.parent.glob(".new*")) == []


def test_from_a_folder_without_an_index(
    mkllm: Run, wheel: Path, small_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    assert mkllm("fetch", "linux-x86_64", "--find-links", wheel.parent) == 0
    assert find_kit("linux-x86_64").id == small_kit.id


def test_a_kit_for_a_mac(mkllm: Run, macos_kit: Kit, tmp_path: Path) -> None:
    write_wheel(macos_kit, version(), tmp_path / "macs")
    assert mkllm("fetch", "macos-arm64", "--find-links", tmp_path / "macs") == 0
    found = find_kit("macos-arm64")
    assert (found.id, found.target, found.runs_here) == (macos_kit.id, "macos-arm64", False)
    found.verify()


def test_an_index_without_it(mkllm: Run, index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (index / "index.html").write_text("<html></html>")
    assert mkllm("fetch", "linux-x86_64") == 20
    refused(capfd, f"the index that pip is set up with has no {NAME} {version()}: build it")


def test_an_index_with_other_versions(
    mkllm: Run, index: Path, small_kit: Kit, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write_wheel(small_kit, "0.0.7", index)
    (index / "index.html").write_text(f'<a href="{other.name}">{other.name}</a>')
    assert mkllm("fetch", "linux-x86_64") == 20
    refused(capfd, f"has no {NAME} {version()}, but 0.0.7: build it with `mkllm kit build`")


def test_a_folder_without_it(mkllm: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert mkllm("fetch", "linux-x86_64", "--find-links", empty) == 20
    refused(capfd, f"{str(empty)!r} has no {NAME} {version()}: build it")


def test_no_index_at_all(mkllm: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/simple/")
        assert mkllm("fetch", "linux-x86_64") == 23
    refused(capfd, f"no index that pip is set up with could be asked for {NAME} {version()}", "--find-links")


def test_another_file_than_the_index_promises(mkllm: Run, index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    promise(index, "0" * 64)
    assert mkllm("fetch", "linux-x86_64") == 16
    refused(capfd, "is not the file that the index promises")


def test_a_target_that_is_none(mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("fetch", "amiga-68k") == 20
    refused(capfd, "there is no target 'amiga-68k': choose one of linux-x86_64, ")


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("kit/runtime.pkg", b"another", "'runtime.pkg' is not what kit.json says"),
        ("kit/runtime.pkg", None, "it cannot be read"),
        ("kit/kit.json", None, "it cannot be read"),
        ("kit/kit.json", b"{}", "kit.json is not as it was written"),
    ],
)
def test_a_damaged_wheel(
    name: str, data: bytes | None, why: str, mkllm: Run, wheel: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rewrite(wheel, lambda member, old: data if member.endswith(name) else old)
    assert mkllm("fetch", "linux-x86_64", "--find-links", wheel.parent) == 20
    refused(capfd, why)
    assert all_kits() == ([], {})


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"target": "linux-x86_64"', b'"target": "linux-aarch64"', "it holds a kit for 'linux-aarch64'"),
        (b'"id": "', b'"id": "0', "is not what its id says"),
    ],
)
def test_a_kit_that_is_another(
    old: bytes, new: bytes, why: str, mkllm: Run, wheel: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rewrite(wheel, lambda name, data: data.replace(old, new) if name.endswith("kit/kit.json") else data)
    assert mkllm("fetch", "linux-x86_64", "--find-links", wheel.parent) == 20
    refused(capfd, why)
    assert all_kits() == ([], {})


def test_no_wheel_at_all(mkllm: Run, wheel: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wheel.write_bytes(b"no zip")
    assert mkllm("fetch", "linux-x86_64", "--find-links", wheel.parent) in (20, 22)
    assert capfd.readouterr().err.count("mkllm: ") == 1
