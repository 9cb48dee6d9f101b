"""Which file is the artifact."""

import sys

import pytest

from mkllm.runtime.errors import NotAnArtifact
from mkllm.runtime.own_file import own_file, own_name


def test_in_development_it_is_named(monkeypatch):
    monkeypatch.setenv("MKLLM_ARTIFACT", "/some/demo")
    assert (own_file(), own_name()) == ("/some/demo", "demo")


def test_in_development_without_a_name(monkeypatch):
    monkeypatch.delenv("MKLLM_ARTIFACT", raising=False)
    with pytest.raises(NotAnArtifact, match="set MKLLM_ARTIFACT"):
        own_file()


@pytest.fixture
def running(monkeypatch, tmp_path):
    """The frozen program's file, which its entry has open; the number of the descriptor."""
    path = tmp_path / "demo"
    path.write_text("a program")
    with path.open() as file:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        monkeypatch.setattr(sys, "executable", str(path))
        monkeypatch.setenv("MKLLM_FILE_FD", str(file.fileno()))
        yield file.fileno()


def test_frozen_it_is_the_running_file(running, monkeypatch):
    monkeypatch.setenv("MKLLM_ARTIFACT", "/some/demo")
    assert own_name() == sys.executable.rpartition("/")[2]
    assert own_file() == sys.executable


@pytest.mark.parametrize("there", [True, False])
def test_frozen_and_replaced_meanwhile(running, tmp_path, there):
    (tmp_path / "demo").unlink()
    if there:
        (tmp_path / "demo").write_text("another file")
    assert own_file() == f"/proc/self/fd/{running}"
    with open(own_file()) as file:
        assert file.read() == "a program"
