"""What a session decides before anything is started."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mkllm.runtime.artifact.manifest import Device
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.errors import EngineUnusable, NotAnArtifact
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.session import SMALL_MODEL, fit_model, fit_threads, for_device, settle, start_session

DEVICE = Device("test-1gb", None, None, 1 << 30, 1024, "q8_0", 4, 128)


@pytest.mark.parametrize("size,threads", [(SMALL_MODEL - 1, 1), (SMALL_MODEL, 6)])
def test_small_models_have_one_thread(size, threads):
    artifact = SimpleNamespace(weights=SimpleNamespace(size=size))
    assert fit_threads(artifact, Facts(cores=6), EngineOptions()) == threads


@pytest.mark.parametrize("cores,threads", [(6, 4), (2, 2)])
def test_threads_of_a_device_are_never_more_than_there_are_cores(cores, threads):
    artifact = SimpleNamespace(weights=SimpleNamespace(size=SMALL_MODEL))
    assert fit_threads(artifact, Facts(cores=cores), EngineOptions(device=DEVICE)) == threads


def test_what_was_set_for_a_device_holds_on_it_alone(build_fake, tmp_path):
    """And where the user says nothing else."""
    there = Facts(memory_available=900 << 20, memory_total=1 << 30)
    elsewhere = Facts(memory_available=2 << 30, memory_total=2 << 30)
    with open_artifact(build_fake(tmp_path / "made", defaults={"device": DEVICE})) as artifact:
        options = for_device(artifact, there, EngineOptions())
        fitted = fit_model(artifact, there, options)
        assert (fitted.context, fitted.type_k, fitted.type_v, fitted.batch) == (1024, "q8_0", "q8_0", 128)
        assert settle(artifact, there, options, fitted).batch_settled
        asked = EngineOptions(context=2048, plain=[("--cache-type-k", "f16"), ("--ubatch-size", "64")])
        own = fit_model(artifact, there, for_device(artifact, there, asked))
        assert (own.context, own.type_k, own.type_v, own.batch) == (2048, "f16", "q8_0", 64)
        assert for_device(artifact, elsewhere, EngineOptions()) == EngineOptions()
        other = fit_model(artifact, elsewhere, for_device(artifact, elsewhere, EngineOptions()))
        assert (other.context, other.type_k, other.batch) == (4096, "f16", 512)


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
