"""What systemd is told, over a socket of its kind."""

import os
import socket
from dataclasses import replace

import pytest

from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.front.manager import Manager


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """The socket on which systemd listens."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@mkllm-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.setblocking(False)
        yield listening


def snapshot(phase, **changes):
    return replace(Snapshot(phase, 0.0, "cpu-zen4", "AVX-512", "", "", None, 0, None, None), **changes)


def test_everything_once(systemd):
    manager = Manager()
    assert "NOTIFY_SOCKET" not in os.environ
    for phase in ("loading", "loading", "ready", "ready"):
        manager.engine(snapshot(phase))
    manager.end()
    told = [systemd.recv(999) for _ in range(3)]
    assert told == [
        b"STATUS=reading the model",
        b"READY=1\nSTATUS=ready, cpu-zen4 (AVX-512)",
        b"STOPPING=1\nSTATUS=stopping",
    ]
    with pytest.raises(BlockingIOError):
        systemd.recv(999)


def test_why_it_is_loading_again(systemd):
    Manager().engine(snapshot("loading", last_failure="the engine died of SIGSEGV"))
    assert systemd.recv(999) == b"STATUS=the engine died of SIGSEGV"


def test_a_manager_that_is_gone_or_none_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    Manager().end()
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Manager().end()
