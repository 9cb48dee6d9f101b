"""What an artifact thinks comes next, and how far that is from what something else thinks."""

import json
import math
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any


def ask(url: str, path: str, **values: object) -> Any:
    request = urllib.request.Request(url + path, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def predicted(url: str, prompt: object, count: int, taken: int) -> dict[int, float]:
    """Log-probabilities of the token after a prompt (numbers of tokens, or text with pictures), by number; `taken` is
    the one that is taken: one of whole letters, since the half of one is not told."""
    bias = [[taken, 1000.0]]
    answer = ask(url, "/completion", prompt=prompt, n_predict=1, n_probs=count, logit_bias=bias, cache_prompt=False)
    (first,) = answer["completion_probabilities"]
    return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}


def divergence(wanted: Sequence[float], found: Mapping[int, float]) -> float:
    """KL, in nats."""
    return sum(math.exp(p) * (p - found[number]) for number, p in enumerate(wanted))
