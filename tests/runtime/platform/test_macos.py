"""What is different on macOS, on this system: its programs are played, its folders are made."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mkllm.runtime.errors import NoPlace
from mkllm.runtime.platform.macos import busy, channel, children, desktop, files, own, places

ENDED = 0x7FFFFFF0  # no process has that number


def test_an_address_is_a_path_that_a_socket_can_have(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    address = channel.new_address()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
    assert Path(address).parent == tmp_path and channel.new_address() != address
    assert channel.arguments(address) == ("--host", address) and address.endswith(".sock")


@pytest.mark.parametrize("folder", ["", "relative", "/" + "long/" * 20])
def test_in_other_folders_it_would_be_too_long(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder)
    address = channel.new_address()
    assert re.fullmatch(r"/tmp/mkllm-\d+-[0-9a-f]{16}\.sock", address) and len(address) <= channel.LONGEST


def test_sockets_are_removed_at_the_end_or_by_the_next_launch(tmp_path, monkeypatch):
    code = (
        "import pathlib; from mkllm.runtime.platform.macos import channel; a = channel.new_address();"
        "pathlib.Path(a).touch(); print(a)"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.startswith(str(tmp_path)) and list(tmp_path.iterdir()) == []
    killed = tmp_path / f"mkllm-{ENDED}-0123456789abcdef.sock"
    living = tmp_path / f"mkllm-{os.getpid()}-0123456789abcdef.sock"
    other = tmp_path / f"mkllm-{ENDED}-other.sock"
    for path in (killed, living, other):
        path.touch()
    channel.new_address()
    assert sorted(tmp_path.iterdir()) == sorted([living, other])


@pytest.mark.parametrize(
    ("connections", "expected"),
    [([("", "/tmp/a.sock"), ("/tmp/b.sock", None)], True), ([("/tmp/a.sock", None), ("", "/tmp/b.sock")], False)],
)
def test_a_connection_of_this_process_is_seen(connections, expected, monkeypatch):
    found = [SimpleNamespace(laddr=own_end, raddr=far_end) for own_end, far_end in connections]
    monkeypatch.setattr(psutil.Process, "net_connections", lambda self, kind: found if kind == "unix" else [])
    assert channel.is_connected("/tmp/a.sock") is expected


def test_where_connections_cannot_be_known_somebody_may_be_there(monkeypatch):
    def refused(self, kind):
        raise psutil.AccessDenied(os.getpid())

    monkeypatch.setattr(psutil.Process, "net_connections", refused)
    assert channel.is_connected("/tmp/a.sock")


def test_activity():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        before = children.activity(process.pid)
        time.sleep(0.3)
        after = children.activity(process.pid)
        process.send_signal(signal.SIGSTOP)
        stopped = children.activity(process.pid)
        time.sleep(0.2)
        assert before and before != after and children.activity(process.pid) == stopped
        process.kill()
    assert children.activity(process.pid) == []


def test_time_of_other_programs():
    before = busy.used_by_others(Path())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        time.sleep(0.6)
        after = busy.used_by_others(Path())
        process.kill()
    assert after - before > 0.2


def test_a_file_without_a_name(tmp_path):
    descriptor = files.temporary("slice", tmp_path / "home")
    try:
        assert list((tmp_path / "home").iterdir()) == []
        os.pwrite(descriptor, b"hello", 1 << 20)
        assert os.pread(descriptor, 5, 1 << 20) == b"hello" and not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_which_processes_are_there():
    assert files.is_running(os.getpid()) and files.is_running(1) and not files.is_running(ENDED)


def test_the_end_of_the_launcher_is_noticed(tmp_path, monkeypatch):
    """A launcher that is killed, and its child, which is told."""
    child = """
import pathlib, sys
from mkllm.runtime.platform.macos import own
sys.frozen, own.LOOK_SECONDS = True, 0.05
wait = own.guardian()
print("ready", flush=True)
wait()
pathlib.Path(sys.argv[1]).write_text("gone")
"""
    launcher = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    words = [sys.executable, "-c", launcher, child, str(tmp_path / "told")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        assert not (tmp_path / "told").exists()
        process.kill()
    end = time.monotonic() + 10
    while not (tmp_path / "told").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert (tmp_path / "told").exists()


def test_what_is_not_frozen_has_no_launcher():
    assert own.guardian() is None and own.own_program() == sys.executable


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folders; returns what holds them."""
    for name in ("MKLLM_HOME", "MKLLM_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in {"HOME": "user", "TMPDIR": "T"}.items():
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


def test_the_engine_is_placed_in_the_user_s_caches(home):
    path, kept = places.native_home("0123456789abcdef")
    assert (path, kept) == (home / "user/Library/Caches/mkllm/runtime/_MEI0123456789abcd", True)
    assert path.stat().st_mode & 0o777 == 0o700 and [file.name for file in path.iterdir()] == [".lock"]
    assert places.native_home("0123456789abcdef") == (path, True)


def test_a_place_that_was_chosen_comes_first(home, monkeypatch):
    monkeypatch.setenv("MKLLM_RUNTIME_DIR", str(home / "chosen"))
    assert places.native_home("0" * 16) == (home / "chosen" / f"_MEI{'0' * 14}", True)
    monkeypatch.setenv("MKLLM_HOME", str(home))
    assert places.native_home("0" * 16) is None


def test_places_that_would_not_do_are_passed_over(home, monkeypatch):
    monkeypatch.setenv("MKLLM_RUNTIME_DIR", str(home / "a:b"))
    caches = home / "user/Library/Caches"
    caches.mkdir(parents=True)
    (caches / "mkllm").touch()
    for pid in (ENDED, os.getpid()):
        (home / "T" / f"mkllm-{pid}-0123456789ab").mkdir()
    path, kept = places.native_home("0" * 16)
    assert path.parent == home / "T" and not kept and not (home / "a:b").exists()
    assert len(list((home / "T").iterdir())) == 2  # its own, and that of a process that lives


def test_what_others_can_change_is_no_place(home):
    path = home / "user/Library/Caches/mkllm/runtime" / f"_MEI{'0' * 14}"
    path.mkdir(parents=True)
    path.chmod(0o777)
    assert places.native_home("0" * 16)[0].parent == home / "T"


def test_another_user_s_home_does_not_count(home, monkeypatch):
    monkeypatch.setattr(places.os, "geteuid", lambda: os.getuid() + 1)
    assert str(home / "user") not in [str(path) for path, _ in places._places()]


def test_no_place_at_all(home, monkeypatch):
    monkeypatch.setattr(places, "_refusal", lambda path: "a reason")
    with pytest.raises(
        NoPlace, match=r"^no folder can hold the engine \('.*/user/Library/Caches/mkllm/runtime': a reason;"
    ):
        places.native_home("0" * 16)


def test_the_browser_is_opened_where_a_person_is(tmp_path, monkeypatch):
    opener = tmp_path / "open"
    opener.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/told.new && mv {tmp_path}/told.new {tmp_path}/told\n')
    opener.chmod(0o755)
    monkeypatch.setattr(desktop, "OPENER", str(opener))
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")
    assert not desktop.open_page("http://127.0.0.1:8080/")
    monkeypatch.delenv("SSH_CONNECTION")
    assert desktop.open_page("http://127.0.0.1:8080/")
    end = time.monotonic() + 10
    while not (tmp_path / "told").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert (tmp_path / "told").read_text() == "http://127.0.0.1:8080/\n"
    monkeypatch.setattr(desktop, "OPENER", str(tmp_path / "none"))
    assert not desktop.open_page("http://127.0.0.1:8080/")
