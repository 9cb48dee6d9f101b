"""What tests of converted models have in common: the command line, transformers in the converter's Python, a server."""

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.convert.environment import Environment, environment
from mkllm.builder.progress import Output

LONG = 900  # seconds
Mkllm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def converter() -> Environment:
    """llama.cpp's converter with its Python, in which transformers is too."""
    return environment(Output(True))


@pytest.fixture(scope="module")
def run(mkllm: Path) -> Mkllm:
    """`run(*words)`: the command line, to its end."""

    def running(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([mkllm, *words], capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)

    return running


def transformers(converter: Environment, code: str, folder: Path, values: object) -> Any:
    """What this code prints as JSON; the folder and the values are its words."""
    words = [converter.python, "-s", "-E", "-c", code, folder, json.dumps(values)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(url: str, path: str, **values: object) -> Any:
    request = urllib.request.Request(url + path, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)
