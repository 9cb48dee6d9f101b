"""Which file is the artifact."""

import sys

import pytest

from mkllm.runtime.errors import NotAnArtifact
from mkllm.runtime.own_file import own_file, own_name
from mkllm.runtime.platform.posix.own import RUNNING


def test_in_development_it_is_named(monkeypatch):
    monkeypatch.setenv("MKLLM_ARTIFACT", "/some/demo")
    assert (own_file(), own_name()) == ("/some/demo", "demo")


def test_in_development_without_a_name(monkeypatch):
    monkeypatch.delenv("MKLLM_ARTIFACT", raising=False)
    with pytest.raises(NotAnArtifact, match="set MKLLM_ARTIFACT"):
        own_file()


def test_frozen_it_is_the_running_file(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("MKLLM_ARTIFACT", "/some/demo")
    assert own_name() == sys.executable.rpartition("/")[2]
    assert own_file() == sys.executable


@pytest.mark.parametrize("there", [True, False])
def test_frozen_and_replaced_meanwhile(monkeypatch, tmp_path, there):
    if there:
        (tmp_path / "demo").write_text("another file")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "demo"))
    assert own_file() == RUNNING
