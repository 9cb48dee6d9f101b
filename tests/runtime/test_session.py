"""What a session decides before anything is started."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.errors import EngineUnusable, NotAnArtifact
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.session import SMALL_MODEL, fit_model, fit_threads, start_session


@pytest.mark.parametrize("size,threads", [(SMALL_MODEL - 1, 1), (SMALL_MODEL, 6)])
def test_small_models_have_one_thread(size, threads):
    artifact = SimpleNamespace(weights=SimpleNamespace(size=size))
    assert fit_threads(artifact, Facts(cores=6)) == threads


def test_context_by_memory(fake_artifact):
    much = Facts(memory_available=1 << 30, memory_total=1 << 30)
    scarce = Facts(memory_available=100_000_000, memory_total=1 << 30)
    with open_artifact(fake_artifact) as artifact:
        assert fit_model(artifact, much, EngineOptions()).context == 4096
        little = fit_model(artifact, scarce, EngineOptions())
        assert little.context == 2048 and "2048 of the model's 4096" in little.notes[0]
        assert fit_model(artifact, scarce, EngineOptions(context=256)).context == 256
        assert fit_model(artifact, scarce, EngineOptions(context=0, fit=False)).context == 4096


def test_context_that_is_in_force(build_fake, tmp_path):
    yarn = ("--rope-scaling", "yarn", "--rope-scale", "2")
    facts = Facts(memory_available=1 << 30, memory_total=1 << 30)
    with open_artifact(build_fake(tmp_path / "plain")) as artifact:
        cut = fit_model(artifact, facts, EngineOptions(context=8192))
        assert cut.context == 4096 and "4096 tokens instead of 8192" in cut.notes[0]
        assert fit_model(artifact, facts, EngineOptions(context=8192, extra=yarn)).context == 8192
    with open_artifact(build_fake(tmp_path / "yarn", defaults={"engine_args": yarn, "context": 8192})) as artifact:
        assert fit_model(artifact, facts, EngineOptions()).context == 8192


@pytest.fixture
def here(fake_artifact, played, become):
    return become(fake_artifact)


def test_everything_is_gone_when_it_ends(here):
    with start_session(EngineOptions(), None, Logging()) as session:
        assert session.engine.wait_ready(20).kernel == "cpu-haswell"
        assert session.home.path.parent == here
    assert list(here.glob("mkllm-*")) == [] and session.engine.snapshot().phase == "stopped"


def test_everything_is_gone_when_it_fails(here):
    with pytest.raises(ZeroDivisionError), start_session(EngineOptions(), None, Logging()) as session:
        raise ZeroDivisionError
    assert list(here.glob("mkllm-*")) == [] and session.engine.snapshot().phase == "stopped"


def test_a_kernel_that_is_not_there_starts_nothing(here):
    with pytest.raises(EngineUnusable, match="this file has no kernel 'gpu': it has"):
        start_session(EngineOptions(), "gpu", Logging()).__enter__()
    assert list(here.glob("mkllm-*")) == []


def test_another_machine_is_told_so(here, monkeypatch):
    facts = Facts(machine="aarch64", memory_available=1 << 30)
    monkeypatch.setattr("mkllm.runtime.session.probe", lambda: replace(facts))
    with pytest.raises(EngineUnusable, match="runs none of the kernels"):
        start_session(EngineOptions(), None, Logging()).__enter__()


def test_no_file_of_ones_own(monkeypatch):
    monkeypatch.delenv("MKLLM_ARTIFACT", raising=False)
    with pytest.raises(NotAnArtifact):
        start_session(EngineOptions(), None, Logging()).__enter__()
