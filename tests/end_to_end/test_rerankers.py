"""Reranking models made by transformers with random weights: converted, built and served without any option, their
scores are transformers'; those that llama.cpp scores otherwise are refused.

Of `nox -s convert`.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from converting import Mkllm, transformers
from converting import converter as converter
from converting import run as run
from encoders import PLAIN, TEXTS, Kind
from predictions import ask

from mkllm.builder.convert.environment import Environment
from mkllm.builder.convert.limits import limits

QUERIES = TEXTS[:3]
# Scores of texts as answers of questions: logits, before any sigmoid.
REFERENCE = (
    PLAIN
    + """
import inspect, json, sys, transformers
folder, values = sys.argv[1], json.loads(sys.argv[2])
words = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager").eval()
taken = inspect.signature(model.forward).parameters
def score(query, text):
    given = words(query, text, return_tensors="pt")
    return model(**{name: value for name, value in given.items() if name in taken}).logits.item()
with torch.no_grad():
    found = [score(query, text) for query in values["queries"] for text in values["texts"]]
print(json.dumps(found))
"""
)
NEAR = 5e-3  # GELU of a table, and what norms make of that


def scores(url: str, query: str, texts: list[str]) -> list[float]:
    """In the order of the texts; an answer has the best first."""
    found = ask(url, "/v1/rerank", query=query, documents=texts)["results"]
    return [entry["relevance_score"] for entry in sorted(found, key=lambda entry: entry["index"])]


def reference(converter: Environment, folder: Path, kind: Kind) -> list[float]:
    values = {"texts": kind.texts, "queries": QUERIES}
    found: list[float] = transformers(converter, REFERENCE, folder, values)
    assert max(found) - min(found) > 100 * NEAR  # else equal scores would prove nothing
    return found


def furthest(url: str, kind: Kind, wanted: list[float]) -> float:
    """The largest difference of the server's scores from these."""
    found = [score for query in QUERIES for score in scores(url, query, kind.texts)]
    return max(abs(one - right) for one, right in zip(found, wanted, strict=True))


@pytest.mark.parametrize("kind", [Kind("xlm-roberta", scores=True), Kind("modernbert", scores=True)], ids=str)
def test_scores_are_those_of_transformers(
    run: Mkllm, converter: Environment, serve: Any, tmp_path: Path, kind: Kind
) -> None:
    folder, out = kind.make(converter, tmp_path / "tiny"), tmp_path / "out"
    wanted = reference(converter, folder, kind)
    done = run("build", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    assert f"reranking model, asked at /v1/rerank:  {out}" in done.stdout and "chat" not in done.stderr
    with serve(out) as server:
        assert furthest(server.url, kind, wanted) < NEAR
    done = subprocess.run([out, "-p", "Hello"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stdout) == (49, "") and "a reranking model" in done.stderr


# Kinds that are refused, and an architecture that the same part of llama.cpp's converter takes.
REFUSED = {"bert": "CamembertModel", "distilbert": "DistilBertForMaskedLM"}


@pytest.mark.parametrize("name", REFUSED)
def test_models_whose_scores_would_be_others_are_refused(
    run: Mkllm, converter: Environment, serve: Any, tmp_path: Path, name: str
) -> None:
    kind = Kind(name, scores=True)
    folder, out = kind.make(converter, tmp_path / "tiny"), tmp_path / "out"
    wanted = reference(converter, folder, kind)
    config = json.loads((folder / "config.json").read_text())
    (limit,) = (one for one in limits() if one.refuses(config["architectures"][0], config))
    done = run("build", folder, "-o", out)
    assert (done.returncode, out.exists()) == (50, False) and limit.why in done.stderr
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [REFUSED[name]]}))
    done = run("build", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    with serve(out) as server:
        assert furthest(server.url, kind, wanted) > 20 * NEAR
