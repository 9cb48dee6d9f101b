"""What people and programs are told: numbers, /health in every phase, errors inside streams, the desktop's browser."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.errors import EngineDied
from mkllm.runtime.front import answers
from mkllm.runtime.front.console import banner, count
from mkllm.runtime.front.health import health
from mkllm.runtime.platform.desktop import open_page

LOADING = Snapshot("loading", 0.421337, "cpu-zen4", "best of 14", "\0x", "key", 1, 0, None, None)


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (999, "999"), (6_600_000, "6.6 M"), (7_241_732_096, "7.2 B"), (10**12, "1.0 T")]
)
def test_counts(number: int, text: str) -> None:
    assert count(number) == text


def test_the_banner_does_not_steer_the_terminal() -> None:
    model = SimpleNamespace(
        title="\x1b]0;PWND\x07", architecture="llama", parameters=7, quantization="Q8_0", pooling=None
    )
    launch: Any = SimpleNamespace(
        manifest=SimpleNamespace(model=model), front=SimpleNamespace(api_keys=()), model_id="a\nb", context=1
    )
    listening: Any = SimpleNamespace(url="http://127.0.0.1:1")
    lines = banner(launch, listening, LOADING)
    assert lines[0].startswith("a b: http://127.0.0.1:1 is") and "  model   \ufffd]0;PWND\ufffd (llama" in lines[2]
    assert all(line.isprintable() for line in lines)


def test_health_while_loading() -> None:
    status, body = health("demo", 2048, ["cut"], LOADING)
    assert status == 503 and body["status"] == "loading" and body["progress"] == 0.4213
    assert body["error"] == {"message": "Loading model", "type": "unavailable_error", "code": 503}
    assert (body["model"], body["kernel"], body["reason"], body["context"]) == ("demo", "cpu-zen4", "best of 14", 2048)


def test_health_after_the_end() -> None:
    failed = Snapshot("failed", 0.0, "cpu-x64", "", "", "", None, 4, "it ended", EngineDied("it ended for good"))
    status, body = health("demo", 2048, [], failed)
    assert status == 503 and body["status"] == "failed" and body["error"]["message"] == "it ended for good"
    assert body["engine"] == {"restarts": 4, "last_failure": "it ended"}


def test_no_key_of_the_engine_is_told() -> None:
    assert "key" not in json.dumps(health("demo", 1, [], LOADING)[1])


def test_errors_in_streams_are_in_each_apis_own_words() -> None:
    openai = answers.event("/v1/chat/completions", "gone")
    assert openai.endswith(b"\n\n") and json.loads(openai.removeprefix(b"data: "))["error"]["message"] == "gone"
    name, data = answers.event("/v1/messages", "gone").decode().splitlines()[:2]
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {"type": "api_error", "message": "gone"},
    }
    assert b'"type": "error"' in answers.event("/v1/responses", "gone")


def test_the_desktops_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener, seen = tmp_path / "xdg-open", tmp_path / "seen"
    opener.write_text(f'#!/bin/sh\necho "$1" > {seen}.new; mv {seen}.new {seen}\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not open_page("http://localhost:1")
    monkeypatch.setenv("DISPLAY", ":0")
    assert open_page("http://localhost:1")
    end = time.monotonic() + 10
    while not seen.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert seen.read_text() == "http://localhost:1\n"


def test_an_opener_that_cannot_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xdg-open").write_text("no program")
    (tmp_path / "xdg-open").chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not open_page("http://localhost:1")


def test_a_desktop_without_an_opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not open_page("http://localhost:1")
