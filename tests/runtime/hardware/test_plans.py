import json
import os
import time
from dataclasses import replace

import pytest

from mkllm.runtime.hardware.devices import Device, Look
from mkllm.runtime.hardware.plans import MOST, MOST_BUSY, plans
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import Settings, Settled, Trial, Tuning

FACTS = Facts(cpu_model="a processor", cpu_flags=frozenset({"avx2"}), cpus=4, cores=4, memory_available=1)
SETTLED, KERNELS = Settled(4), ("cpu-haswell",)
SETTINGS = Settings("cpu-haswell", 4, 8, True, False, 1024)
TUNING = Tuning(SETTINGS, (Trial("a trial", SETTINGS, 1.5, 2.5),), ("a note",), (), 2.9)


@pytest.fixture
def memory(tmp_path):
    def make(facts=FACTS, kit="kit", model="model", settled=SETTLED, kernels=KERNELS, folder=tmp_path / "p"):
        return plans(folder, facts, kit, model, settled, kernels)

    return make


def test_what_was_measured_is_recalled(memory):
    assert memory().recall() is None
    memory().remember(TUNING)
    assert memory().recall() == TUNING


def test_when_it_was_measured_is_known(memory):
    assert memory().measured() is None and memory(folder=None).measured() is None
    memory().remember(TUNING)
    assert abs(time.time() - memory().measured()) < 60


@pytest.mark.parametrize(
    "change",
    [
        {"facts": replace(FACTS, cpu_model="another")},
        {"facts": replace(FACTS, cpu_quota=2.0)},
        {"kit": "another"},
        {"model": "another"},
        {"settled": Settled(4, repack=False)},
        {"kernels": ("cpu-haswell", "cpu-x64")},
    ],
)
def test_of_anything_else_nothing_is_recalled(memory, change):
    memory().remember(TUNING)
    assert memory(**change).recall() is None


def test_what_passes_does_not_matter(memory):
    memory().remember(TUNING)
    assert memory(facts=replace(FACTS, memory_available=5, notes=("a note",))).recall() == TUNING


def test_what_has_computed_is_known_of_what_is_recalled(memory, monkeypatch):
    memory().remember_proven("cpu-haswell")
    assert not memory().is_proven("cpu-haswell")  # nothing is recalled
    memory().remember(TUNING)
    memory().remember_proven("cpu-haswell")
    assert memory().is_proven("cpu-haswell") and not memory().is_proven("cpu-x64")
    assert not memory(model="another").is_proven("cpu-haswell") and not memory(folder=None).is_proven("cpu-haswell")
    memory().doubt("cpu-x64")
    monkeypatch.setattr("mkllm.runtime.hardware.plans.release", lambda: "another system")
    assert memory().recall() == TUNING and not memory().is_proven("cpu-haswell")
    monkeypatch.undo()
    assert memory().is_proven("cpu-haswell")
    memory().doubt("cpu-haswell")
    assert not memory().is_proven("cpu-haswell")


@pytest.mark.parametrize("end", [lambda memory: memory.remember(TUNING), lambda memory: memory.forget()])
def test_what_has_computed_is_forgotten_with_how_it_was_started(memory, end):
    memory().remember(TUNING)
    memory().remember_proven("cpu-haswell")
    end(memory())
    memory().remember(TUNING)
    assert not memory().is_proven("cpu-haswell")


def test_what_was_measured_on_a_busy_machine_is_measured_again_a_few_times(memory):
    busy = replace(TUNING, lasting=False)
    for _ in range(MOST_BUSY - 1):
        memory().remember(busy)
        assert memory().recall() is None
    memory().remember(busy)
    assert memory().recall() == busy
    memory().remember(TUNING)
    assert memory().recall() == TUNING


def test_where_nothing_could_be_measured_no_kernel_is_blamed(memory):
    memory().remember(replace(TUNING, trials=(), crashed=(("cpu-zen4", "it was ended by SIGILL"),)))
    assert memory().crashes() == {}


def test_crashes_are_of_the_machine_and_the_kit_not_of_the_model(memory):
    memory().remember(replace(TUNING, crashed=(("cpu-zen4", "it was ended by SIGILL"),)))
    day = time.strftime("%Y-%m-%d")
    assert memory(model="another").crashes() == {"cpu-zen4": f"it crashed here on {day}: it was ended by SIGILL"}
    assert memory(kit="another").crashes() == memory(facts=replace(FACTS, cpus=2)).crashes() == {}
    memory().forget()
    assert memory().crashes() == {} and memory().recall() is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 99}', '{"format": 1}', '{"format": 1, "tuning": {}}'])
def test_what_cannot_be_used_counts_as_nothing(memory, content, tmp_path):
    memory().remember(TUNING)
    memory().remember_crash("cpu-x64", "how")
    for file in (tmp_path / "p").iterdir():
        file.write_text(content)
    assert memory().recall() is None and memory().crashes() == {}


def test_what_cannot_be_written_is_not_remembered(memory, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file", tmp_path / "no" / "folder"):
        nowhere = memory(folder=folder)
        nowhere.remember(TUNING)
        nowhere.remember_crash("cpu-x64", "how")
        nowhere.forget()
        assert nowhere.recall() is None and nowhere.crashes() == {}


def test_the_memory_is_bounded(memory, tmp_path):
    for number in range(MOST + 5):
        memory(model=str(number)).remember(TUNING)
        newest = memory(model=str(number))._read(f"plan-{memory(model=str(number)).subject}")
        assert newest is not None
        os.utime(tmp_path / "p" / f"plan-{memory(model=str(number)).subject}.json", (number, number))
    assert len(list((tmp_path / "p").iterdir())) == MOST
    assert memory(model=str(MOST + 4)).recall() == TUNING and memory(model="0").recall() is None
    assert all(json.loads(file.read_text()) for file in (tmp_path / "p").iterdir())


def test_another_gpu_is_another_machine_and_its_free_memory_is_not(memory):
    def with_gpu(about, free):
        return replace(FACTS, gpus=(Look("vulkan", (Device("Vulkan0", about, memory_total=12, memory_free=free),)),))

    memory(facts=with_gpu("a GPU", 11)).remember_crash("vulkan", "SIGSEGV")
    assert "vulkan" in memory(facts=with_gpu("a GPU", 3)).crashes()
    assert memory(facts=with_gpu("another", 11)).crashes() == {} == memory().crashes()
