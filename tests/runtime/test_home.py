"""Homes: whose they are, when they are removed, what their guardian's death means."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mkllm.runtime.home import OLD_SECONDS, Home, open_home, prune

DAY = 86400


@pytest.fixture(autouse=True)
def no_home(monkeypatch):
    for name in ("MKLLM_HOME", "MKLLM_HOME_KIND", "MKLLM_GUARDIAN_FD"):
        monkeypatch.delenv(name, raising=False)


def test_without_an_entry_it_is_a_folder_of_this_launch():
    home = open_home()
    assert home.kind == "development" and home.path.is_dir() and home.frozen is None
    home.remove()
    assert not home.path.exists()


@pytest.mark.parametrize("kind,stays", [("cache", True), ("temporary", False), ("memory", False)])
def test_what_outlives_the_launch(tmp_path, monkeypatch, kind, stays):
    path = tmp_path / "mkllm-123-abc" / "_MEI0123456789abcd"
    path.mkdir(parents=True)
    (path / "lib").touch()
    monkeypatch.setenv("MKLLM_HOME", str(path))
    monkeypatch.setenv("MKLLM_HOME_KIND", kind)
    home = open_home()
    assert (home.path, home.kind, home.frozen) == (path, kind, str(path))
    home.remove()
    assert path.parent.exists() == path.exists() == stays


def test_a_guardian_removes_the_home_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("MKLLM_HOME", str(tmp_path))
    monkeypatch.setenv("MKLLM_HOME_KIND", "temporary")
    monkeypatch.setenv("MKLLM_GUARDIAN_FD", "9")
    open_home().remove()
    assert tmp_path.exists()


def test_no_folder_of_others_is_removed(tmp_path):
    path = tmp_path / "mkllm-work" / "home"
    path.mkdir(parents=True)
    Home(path, "temporary").remove()
    assert path.parent.exists() and not path.exists()


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_guardians_death_ends_the_child_and_its_home(tmp_path, stubborn):
    path = tmp_path / "mkllm-1-a" / "_MEI1"
    path.mkdir(parents=True)
    program = f"""
import signal, sys, time
from mkllm.runtime import home
home.LAST_SECONDS = 0.3
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
home.watch_guardian(home.open_home())
print("watching", flush=True)
time.sleep(60)
"""
    read, write = os.pipe()
    environment = {"MKLLM_HOME": str(path), "MKLLM_HOME_KIND": "temporary", "MKLLM_GUARDIAN_FD": str(read)}
    child = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **environment}, pass_fds=(read,), stdout=subprocess.PIPE
    )
    with child:
        os.close(read)
        assert child.stdout.readline() == b"watching\n"
        os.close(write)
        assert child.wait(10) == (143 if stubborn else -15)
    assert path.exists() != stubborn


def sibling(home, name, days):
    path = home.path.with_name(name)
    path.mkdir()
    (path / ".lock").touch()
    old = time.time() - days * DAY
    os.utime(path / ".lock", (old, old))
    return path


def test_old_homes_of_other_kits_are_removed(tmp_path):
    home = Home(tmp_path / "_MEI00000000000000", "cache")
    home.path.mkdir()
    (home.path / ".lock").touch()
    os.utime(home.path / ".lock", (0, 0))
    old, young = sibling(home, "_MEI11111111111111", 31), sibling(home, "_MEI22222222222222", 29)
    assert prune(home) == [old]
    assert sorted(path.name for path in tmp_path.iterdir()) == [home.path.name, young.name]
    assert time.time() - (home.path / ".lock").stat().st_mtime < 60


def test_a_home_in_use_stays_however_old(tmp_path):
    home = Home(tmp_path / "_MEI00000000000000", "cache")
    home.path.mkdir()
    used = sibling(home, "_MEI11111111111111", 400)
    with (used / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert prune(home, time.time() + OLD_SECONDS) == []
    assert used.exists()


def refused(number):
    def refuse(*args, **named):
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_read_only_cache_is_left_as_it_is(tmp_path, monkeypatch):
    home = Home(tmp_path / "_MEI00000000000000", "cache")
    home.path.mkdir()
    (home.path / ".lock").touch()
    old = sibling(home, "_MEI11111111111111", 400)
    for name in ("utime", "open", "rename"):
        monkeypatch.setattr(os, name, refused(errno.EROFS))
    assert prune(home) == [] and old.exists()


def test_a_cache_that_cannot_be_listed(tmp_path, monkeypatch):
    home = Home(tmp_path / "_MEI00000000000000", "cache")
    home.path.mkdir()
    monkeypatch.setattr(os, "listdir", refused(errno.EACCES))
    monkeypatch.setattr(os, "scandir", refused(errno.EIO))
    assert prune(home) == []


def test_a_home_that_may_not_be_looked_into_stays(tmp_path, monkeypatch):
    """Of another user in a folder of all; the others beside it are pruned all the same."""
    home = Home(tmp_path / "_MEI00000000000000", "cache")
    home.path.mkdir()
    foreign, old = sibling(home, "_MEI11111111111111", 400), sibling(home, "_MEI22222222222222", 400)
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **named: (refused(13) if foreign in path.parents else stat)(path, **named)
    )
    assert prune(home) == [old]
    monkeypatch.undo()
    assert foreign.exists() and not old.exists()


def test_only_the_cache_is_pruned(tmp_path):
    home = Home(tmp_path / "_MEI00000000000000", "temporary")
    home.path.mkdir()
    old = sibling(home, "_MEI11111111111111", 400)
    assert prune(home) == [] and old.exists()
