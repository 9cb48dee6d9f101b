"""The context that is shown is the one that every request has; what does not fit the memory is reduced and said."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

YARN = ("--", "--rope-scaling", "yarn", "--rope-scale", "2")


def load(request: str | urllib.request.Request) -> Any:
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        (("--parallel", "4"), 1024),
        (("--", "-np", "3"), 1024),
        (("-c", "300"), 512),
        (("-c", "4096"), 1024),
        (("-c", "4096", "--", "--rope-scale", "2"), 1024),
        (("-c", "4096", *YARN), 2048),
    ],
)
def test_context_of_every_request(demo: Path, serve: Any, words: tuple[str, ...], tokens: int) -> None:
    with serve(demo, *words) as server:
        health = load(f"{server.url}/health")
        props = load(f"{server.url}/props")
        assert (health["context"], props["default_generation_settings"]["n_ctx"]) == (tokens, tokens)
        assert f"context {tokens} tokens" in server.output.read_text()


def machine(folder: Path, **facts: int) -> dict[str, str]:
    """An environment that plays a machine."""
    path = folder / "machine.json"
    path.write_text(json.dumps(facts))
    return {"MKLLM_PROBE": str(path)}


def test_a_machine_with_little_memory(demo: Path, serve: Any, tmp_path: Path) -> None:
    little = machine(tmp_path, memory_available=110_000_000, memory_total=1 << 30)
    with serve(demo, env=little) as server:
        health = load(f"{server.url}/health")
        [note] = health["notes"]
        assert note.startswith("batch: ") and note in server.output.read_text()
        question = {"messages": [{"role": "user", "content": "What is 7 times 8?"}], "temperature": 0}
        request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(question).encode())
        answer = load(request)
        assert "56" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("words", [("-p", "hello"), ("chat",), ()])
def test_a_machine_with_too_little_memory(demo: Path, words: tuple[str, ...], tmp_path: Path) -> None:
    env = {**os.environ, **machine(tmp_path, memory_available=50_000_000, memory_total=64_000_000)}
    done = subprocess.run([demo, *words], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 45 and done.stdout == "" and "--fit off starts it all the same" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    shown = subprocess.run([demo, "info"], env=env, capture_output=True, text=True)
    assert shown.returncode == 0 and done.stderr.split(": ", 1)[1].strip() in shown.stdout


def test_fit_off(demo: Path, tmp_path: Path) -> None:
    env = {**os.environ, **machine(tmp_path, memory_available=50_000_000, memory_total=64_000_000)}
    done = subprocess.run([demo, "-p", "What is 7 times 8?", "--fit", "off"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "56" in done.stdout and done.stderr == ""
