"""A llama.cpp engine as a child process for the time of the evaluation, and what it is asked over HTTP."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mkllm.builder.demo.messages import Message


@contextmanager
def serving(engine: Path, model: Path, patience: float = 60.0) -> Iterator[str]:
    """Starts `engine serve` on a free port and yields its address once it is ready; stops it in the end.

    One thread, because for a model this small more threads only wait for each other.
    """
    port = free_port()
    command = [str(engine), "serve", "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait(address, child, patience)
        yield address
    finally:
        child.terminate()
        child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(address: str, child: subprocess.Popen[bytes], patience: float) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if child.poll() is not None:
            raise RuntimeError(f"the engine ended with exit code {child.returncode} before it was ready")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"the engine was not ready within {patience:.0f} seconds")


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def answer(base_url: str, messages: Sequence[Message]) -> str:
    """The answer at temperature 0 of an OpenAI-compatible server, whose address ends in `/v1`."""
    body = {
        "model": "demo",
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "temperature": 0,
        "max_tokens": 150,
    }
    text: str = post(f"{base_url}/chat/completions", body)["choices"][0]["message"]["content"]
    return text


def tokens(address: str, text: str) -> list[int]:
    """The tokens that the engine makes of a text, special ones included."""
    body = {"content": text, "add_special": True, "parse_special": True}
    ids: list[int] = post(f"{address}/tokenize", body)["tokens"]
    return ids


def templated(address: str, messages: Sequence[Message]) -> str:
    """The prompt that the engine makes with the chat template of the model."""
    body = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    prompt: str = post(f"{address}/apply-template", body)["prompt"]
    return prompt
