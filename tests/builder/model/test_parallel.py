"""Large files come over several connections, in order, whatever goes wrong meanwhile."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import HubFailure, NoSpace
from mkllm.builder.model import parallel
from mkllm.builder.model.hub import fetch
from mkllm.builder.model.hub_reference import parse
from mkllm.builder.model.passing import Passing
from mkllm.builder.progress import Output

QUIET = Output(True)
NAME = "hf:org/model/sub/other.gguf"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 KB are large enough for several connections."""
    monkeypatch.setattr(parallel, "BLOCK", 30_000)
    monkeypatch.setattr(parallel, "LEAST", 60_000)


def ranges(hub: Any) -> list[str]:
    return [told for method, path, told in hub.log if method == "GET" and path.startswith("/cdn/") and told]


def test_a_file_comes_in_parts(hub: Any, small_blocks: None) -> None:
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert fetch(parse(NAME), QUIET).path.read_bytes() == data
    assert len(ranges(hub)) == 17 and "bytes=0-29999" in ranges(hub) and hub.sent["sub/other.gguf"] == len(data)


def test_cut_parts_are_completed(hub: Any, small_blocks: None) -> None:
    hub.faults.cuts = [10_000, 1, 29_999, 5]
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert fetch(parse(NAME), QUIET).path.read_bytes() == data and hub.sent["sub/other.gguf"] == len(data)


def test_what_came_is_kept_for_the_next_run(hub: Any, small_blocks: None, tmp_path: Path) -> None:
    hub.faults.cuts = [30_000] * 8 + [0] * 200
    with pytest.raises(HubFailure, match="a connection was cut before anything came, 5 times in a row"):
        fetch(parse(NAME), QUIET)
    (left,) = tmp_path.rglob("*-incomplete")
    kept = left.stat().st_size
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert kept % 30_000 == 0 and kept >= 60_000 and left.read_bytes() == data[:kept]
    hub.faults.cuts = []
    hub.sent.clear()
    assert fetch(parse(NAME), QUIET).path.read_bytes() == data and hub.sent["sub/other.gguf"] == len(data) - kept


def test_a_server_without_ranges(hub: Any, small_blocks: None) -> None:
    hub.faults.no_ranges = True
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert fetch(parse(NAME), QUIET).path.read_bytes() == data


def test_room_is_looked_for_for_all_parts_together(hub: Any, gguf_bytes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    files = hub.repositories["org/model"].files
    for number in (1, 2):
        files[f"big-0000{number}-of-00002.gguf"] = b"GGUF" + bytes(300_000)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 100, 90, 90, 10, 10, 10, 0, 255)))
    with pytest.raises(NoSpace, match="600.01 kB needed, 368.64 kB free"):
        fetch(parse("hf:org/model/big-00001-of-00002.gguf"), QUIET)
    assert not any(name.startswith("big") for name in hub.sent)


class Remote:
    """A file in memory that counts how many readers there are at once."""

    def __init__(self, data: bytes) -> None:
        self.data, self.open, self.most, self.lock = data, 0, 0, threading.Lock()
        self.all_there = threading.Barrier(parallel.CONNECTIONS)

    @contextlib.contextmanager
    def __call__(self, start: int, end: int | None = None, /) -> Iterator[tuple[int, Iterator[bytes]]]:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        if start < parallel.CONNECTIONS * parallel.BLOCK:
            self.all_there.wait(10)
        yield start, iter([self.data[start:end]])
        with self.lock:
            self.open -= 1


def test_as_many_connections_at_once_as_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BLOCK", 1000)
    remote = Remote(bytes(range(250)) * 40)
    taken: list[bytes] = []
    parallel.receive(remote, 0, 10_000, taken.append)
    assert b"".join(taken) == remote.data and remote.most == parallel.CONNECTIONS


def test_a_failure_ends_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BLOCK", 1000)

    @contextlib.contextmanager
    def broken(start: int, end: int | None = None, /) -> Iterator[tuple[int, Iterator[bytes]]]:
        yield start, iter([])

    with pytest.raises(Passing):
        parallel.receive(broken, 0, 100_000, lambda data: None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("download")]


def test_the_hash_is_that_of_the_whole(hub: Any, small_blocks: None) -> None:
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert fetch(parse(NAME), QUIET).sha256 == hashlib.sha256(data).hexdigest()
