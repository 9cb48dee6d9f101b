"""Models that generate no text: what they are started with, what they refuse, and how they say what they are for."""

import json
from dataclasses import replace

import pytest

from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions, arguments, asked
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.settings import Settings

FIT = Fit(512, "f16", "f16", 512, 0, 0, 8 << 30)
POOLED = {"architecture": "bert", "chat_template": None}


@pytest.fixture(scope="module")
def embedder(build_fake, tmp_path_factory):
    return build_fake(tmp_path_factory.mktemp("embedder") / "embedder", model={**POOLED, "pooling": "mean"})


def words(path, context=4096, **changes):
    with open_artifact(path) as artifact:
        manifest = replace(artifact.manifest, model=replace(artifact.manifest.model, context=context, **changes))
    options = EngineOptions(plain=(("--pooling", "cls"),))
    return list(arguments(manifest, options, FIT, Settings("cpu-haswell", 2, 2, False))), asked(manifest, options)


def test_the_engine_is_told(embedder):
    found, fitted = words(embedder)
    at = found.index("--embeddings")
    assert found[at : at + 7] == ["--embeddings", "--pooling", "mean", "--batch-size", "2048", "--ubatch-size", "2048"]
    assert found[-2:] == ["--pooling", "cls"]  # who asks for something else gets it: the last one counts
    assert fitted.whole and fitted.batch == 2048
    assert words(embedder, 512)[1].batch == 512
    scores, _ = words(embedder, pooling="rank")
    assert "--reranking" in scores and "--embeddings" not in scores
    assert "--embeddings" not in words(embedder, pooling=None)[0]


@pytest.mark.parametrize("args", [("-p", "hello"), ("chat",), ("bench",)])
@pytest.mark.parametrize(
    ("pooling", "sentence"),
    [
        ("mean", "this is an embedding model, which answers no prompts: start it and ask /v1/embeddings"),
        ("rank", "this is a reranking model, which answers no prompts: start it and ask /v1/rerank"),
    ],
)
def test_prompts_are_refused(build_fake, run, tmp_path, args, pooling, sentence):
    made = build_fake(tmp_path / "made", model={**POOLED, "pooling": pooling})
    done = run(made, *args, stdin="hello")
    assert (done.returncode, done.stdout) == (49, "")
    assert done.stderr.splitlines() == [f"{made.name}: {sentence}"]


def test_it_is_told_what_it_is_for(embedder, run):
    assert "purpose   embedding model (mean): ask /v1/embeddings" in run(embedder, "info").stdout.splitlines()
    assert "purpose           embedding model (mean): /v1/embeddings" in run(embedder, "inspect").stdout.splitlines()
    assert json.loads(run(embedder, "info", "--json").stdout)["model"]["pooling"] == "mean"


def test_a_model_that_generates_has_no_other_purpose(fake_artifact, run):
    with open_artifact(fake_artifact) as artifact:
        assert purpose(artifact.manifest.model) is None
    assert "purpose" not in run(fake_artifact, "info").stdout + run(fake_artifact, "inspect").stdout
