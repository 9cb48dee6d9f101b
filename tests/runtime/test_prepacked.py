"""An artifact with prepacked weights, whose engine plays: how it is started, what it says, and what comes out of it."""

import json
from dataclasses import replace

import pytest

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.settings import untuned
from mkllm.runtime.session import fit_model, settle, start_session

GIB = 1 << 30


@pytest.fixture(scope="module")
def packed(build_fake, tmp_path_factory):
    return build_fake(tmp_path_factory.mktemp("packed") / "packed", prepack=True)


@pytest.fixture
def here(packed, played, become):
    return become(packed)


@pytest.mark.parametrize(
    ("options", "repack"), [(EngineOptions(), True), (EngineOptions(extra=("--no-repack",)), False)]
)
def test_they_are_used_as_they_lie_unless_the_user_says_otherwise(packed, options, repack):
    """Even where there is no room for a copy: they need none."""
    full = Facts(cores=2, memory_available=2 << 20, memory_total=GIB)
    with open_artifact(packed) as artifact:
        fitted = replace(fit_model(artifact, Facts(), options), caches=2 << 20)
        settled = settle(artifact, full, options, fitted)
        assert settled.repack is repack and settled.prepacked is repack
        assert untuned([Choice(artifact.manifest.backends[0], "t", "r")], settled).settings.layout == (
            "prepacked" if repack else "mapped"
        )


@pytest.mark.parametrize("options", [EngineOptions(), EngineOptions(brief=True)])
def test_the_engine_may_use_the_weights_where_they_lie(here, misbehaviour, monkeypatch, options):
    """One engine and no second one, which a model as large as this is said to be would have for its copy."""
    monkeypatch.setattr("mkllm.runtime.session.LONG_TO_REPACK", 0)
    journal = misbehaviour(restored=False)
    with start_session(options, None, Logging()) as session:
        ready = session.engine.wait_ready(20)
        assert "restored" not in ready.reason
        assert len([line for line in journal.read_text().splitlines() if " start " in line]) == 1
        words = session.engine._engine._process.args
    assert "--no-repack" not in words and "--repack" in words


def test_weights_of_another_kernel_are_told(here, misbehaviour):
    misbehaviour(restored=True)
    with start_session(EngineOptions(), None, Logging()) as session:
        ready = session.engine.wait_ready(20)
    assert ready.reason.endswith("; weights restored in memory, since they are not used as they were prepacked")


def test_the_plain_model_is_extracted(packed, run, tmp_path):
    done = run(packed, "extract", "-o", str(tmp_path / "out.gguf"))
    assert done.returncode == 0 and "checked by SHA-256, as it was before it was prepacked" in done.stdout
    data = (tmp_path / "out.gguf").read_bytes()
    assert data[:4] == b"GGUF" and len(data) == 24
    stored = run(packed, "extract", "model.pack", "-o", str(tmp_path / "stored"))
    assert stored.returncode == 0 and (tmp_path / "stored").read_bytes() != data


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("otherwise", 31, "is damaged: 'model.gguf' is not what was built"),
        ("SIGSEGV", 40, "the engine that restored the weights was ended by SIGSEGV"),
        ("exit 3", 40, "the engine that restored the weights ended with status 3: 'error: told to exit 3'"),
        ("damaged", 31, "the weights cannot be restored (the index is damaged): copy the file again"),
    ],
)
def test_a_model_that_does_not_come_back(packed, run, tmp_path, misbehaviour, how, code, words):
    misbehaviour(restore=how)
    done = run(packed, "extract", "-o", str(tmp_path / "out.gguf"))
    assert done.returncode == code and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.gguf").exists() and not list(tmp_path.glob("*.partial"))


def test_it_is_shown(packed, run):
    lines = run(packed, "info").stdout.splitlines()
    assert any(line.split() == ["weights", "prepacked", "for", "cpu-haswell"] for line in lines)
    assert json.loads(run(packed, "info", "--json").stdout)["prepacked"] == {"kernel": "cpu-haswell", "size": 24}
