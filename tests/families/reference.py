"""Models of the families and what they predict, by their references; runs in the converter's environment.

A request is a line of JSON on standard input, its answer one on standard output. What makes and asks a model is named
by the family: `module:function` of this folder. Knows nothing of mkllm.
"""

import importlib
import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FAMILIES = {family["name"]: family for family in tomllib.loads((HERE / "families.toml").read_text("utf-8"))["family"]}


def function(family: dict[str, Any], key: str, default: str) -> Callable[..., Any]:
    module, _, name = family.get(key, default).partition(":")
    return getattr(importlib.import_module(module), name)


def make(name: str, folder: str, changes: dict[str, Any]) -> None:
    """A model with random weights, the same each time, as transformers keeps it, and its tokenizer; its configuration
    changed as told."""
    family = FAMILIES[name]
    family = {**family, "config": {**family.get("config", {}), **changes}}
    function(family, "make", "decoders:make")(family, Path(folder))


def tokens(name: str, folder: str, texts: list[str]) -> list[list[int]]:
    return function(FAMILIES[name], "tokens", "decoders:tokens")(Path(folder), texts)


def predict(name: str, folder: str, prompts: list[list[int]], changes: dict[str, Any]) -> list[list[float]]:
    """Log-probabilities of the token after each prompt, the configuration changed as told."""
    return function(FAMILIES[name], "predict", "decoders:predict")(Path(folder), prompts, changes)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        found = globals()[request.pop("do")](**request)
        print(json.dumps(found), file=answers, flush=True)
