"""A signal that comes while a class is made, in an import, is no defect: Python 3.11 makes another error of it."""

import signal

import pytest

from mkllm.builder import cli


def test_an_end_while_a_class_is_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            raise cli.Stopped(signal.SIGTERM)

    monkeypatch.setattr(cli, "_invoke", lambda args, settings: type("Made", (), {"named": Named()}))
    assert (cli._run([]), capsys.readouterr().err) == (143, "mkllm: terminated\n")
