"""Embedding models made by transformers with random weights, BERT's kinds and one that could generate: converted, built
and served without any option, their tokens and vectors are transformers'.

Of `nox -s convert`.
"""

import math
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from converting import Mkllm, transformers
from converting import converter as converter
from converting import run as run
from encoders import PLAIN, Kind
from predictions import ask

from mkllm.builder.convert.environment import Environment

# Tokens and vectors of texts.
REFERENCE = (
    PLAIN
    + """
import json, sys, transformers
folder, values = sys.argv[1], json.loads(sys.argv[2])
words = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
tokens = [words.encode(text) for text in values["texts"]]
with torch.no_grad():
    found = [model(torch.tensor([ids])).last_hidden_state[0] for ids in tokens]
taken = {"cls": lambda one: one[0], "last": lambda one: one[-1]}.get(values["pooling"], lambda one: one.mean(0))
pooled = [taken(one).tolist() for one in found]
print(json.dumps([tokens, pooled]))
"""
)


KINDS = [
    Kind("bert", "mean"),
    Kind("bert", "cls", lowercase=False),
    Kind("bert", None),
    Kind("modernbert", "cls"),
    Kind("xlm-roberta", "cls"),
    Kind("qwen3", "last"),
]


def distance(one: list[float], other: list[float]) -> float:
    """1 - the cosine of the angle between them."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def vectors(url: str, texts: list[str]) -> list[list[float]]:
    return [entry["embedding"] for entry in ask(url, "/v1/embeddings", input=texts)["data"]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_vectors_are_those_of_transformers(
    run: Mkllm, converter: Environment, serve: Any, tmp_path: Path, kind: Kind
) -> None:
    folder = kind.make(converter, tmp_path / "tiny")
    tokens, wanted = transformers(converter, REFERENCE, folder, {"texts": kind.texts, "pooling": kind.pooling})
    apart = [distance(one, other) for at, one in enumerate(wanted) for other in wanted[:at]]
    assert sorted(apart)[len(apart) // 2] > 0.05  # else equal vectors would prove nothing
    for words, most in ((), 1e-5), (("--quant", "Q8_0"), 1e-2):
        out = tmp_path / f"out{len(words)}"
        done = run("build", folder, *words, "-o", out)
        assert done.returncode == 0, done.stderr
        assert f"embedding model, asked at /v1/embeddings:  {out}" in done.stdout and "chat" not in done.stderr
        with serve(out) as server:
            found = [ask(server.url, "/tokenize", content=text, add_special=True)["tokens"] for text in kind.texts]
            assert found == tokens
            far = [distance(one, other) for one, other in zip(vectors(server.url, kind.texts), wanted, strict=True)]
            print(f"{kind} {words}: {max(far):.2e}")
            assert max(far) < most


@pytest.fixture(scope="module")
def embedder(run: Mkllm, converter: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("embedder")
    done = run("build", KINDS[0].make(converter, place / "tiny"), "-o", place / "out")
    assert done.returncode == 0, done.stderr
    yield place / "out"


def test_it_does_not_chat(embedder: Path, serve: Any) -> None:
    sentence = "this is an embedding model, which answers no prompts: start it and ask /v1/embeddings"
    for words in (["-p", "Hello"], ["chat"]):
        done = subprocess.run([embedder, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (49, "", f"out: {sentence}\n")
    with serve(embedder) as server, pytest.raises(urllib.error.HTTPError) as refused:
        ask(server.url, "/v1/chat/completions", messages=[{"role": "user", "content": "Hello"}])
    assert refused.value.code == 400 and sentence in refused.value.read().decode()


def test_texts_of_its_whole_context_are_taken_and_no_longer_ones(embedder: Path, serve: Any) -> None:
    with serve(embedder) as server:
        size = len(ask(server.url, "/v1/embeddings", input="a " * 250)["data"][0]["embedding"])
        assert size == 64
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server.url, "/v1/embeddings", input="a " * 300)
        assert refused.value.code in (400, 500) and "too large" in refused.value.read().decode()
