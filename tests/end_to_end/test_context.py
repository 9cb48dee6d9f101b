"""The context that is shown is the one that every request has."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

YARN = ("--", "--rope-scaling", "yarn", "--rope-scale", "2")


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
        health = json.load(urllib.request.urlopen(f"{server.url}/health"))
        props = json.load(urllib.request.urlopen(f"{server.url}/props"))
        assert (health["context"], props["default_generation_settings"]["n_ctx"]) == (tokens, tokens)
        assert f"context {tokens} tokens" in server.output.read_text()
