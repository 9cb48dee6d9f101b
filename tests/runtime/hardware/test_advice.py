"""What is advised in which case: one row for each rule, and nothing where all is well."""

from dataclasses import replace

import pytest

from mkllm.runtime.hardware.advice import RULES, Case, advise
from mkllm.runtime.hardware.devices import Look
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import Settings, Settled, Trial, Tuning

GIB = 1 << 30
FLAGS = frozenset("sse4_2 avx f16c fma bmi2 avx2".split())
FACTS = Facts(
    machine="x86_64",
    cpu_flags=FLAGS,
    cpus=8,
    cpus_online=8,
    cores=4,
    huge_pages="madvise",
    memory_total=32 * GIB,
    memory_available=24 * GIB,
)
REPACKED = Settings("cpu-haswell", 4, 4, repack=True)
FIT = Fit(4096, "f16", "f16", 512, GIB // 2, GIB // 8, 0)
WELL = Case(
    facts=FACTS,
    kernels=("cpu-zen4", "cpu-haswell", "cpu-x64"),
    runs=("cpu-haswell", "cpu-x64"),
    weights=4 * GIB,
    memory_repacked=5 * GIB,
    trained=4096,
    context_bytes=GIB // 2,
    fit=FIT,
    settled=Settled(4),
    tuning=Tuning(REPACKED, (Trial("a trial", REPACKED, 100, 10),)),
    file_system="ext4",
)
SMALL = replace(FIT, batch=128, notes=("batch: 128 tokens instead of 512 to save memory; -ub 512 asks for more",))


def facts(**changes):
    return {"facts": replace(FACTS, **changes)}


ROWS = [
    (facts(memory_available=4 * GIB), "memory", "5.0 GB of memory are needed and 4.3 GB are free"),
    ({"kernels": ("cpu-x64",), "runs": ("cpu-x64",)}, "kernel", "has AVX2, and the file has no kernel for that"),
    (
        {"crashes": {"cpu-haswell": "it crashed here"}},
        "crash",
        "cpu-haswell is left out: it crashed here. '--kernel cpu-",
    ),
    (
        facts(gpus=(Look("cuda", (), "driver 470.256.02, needs 580", "Install a later one."),)),
        "driver",
        "cuda is left out: driver 470.256.02, needs 580. Install a later one.",
    ),
    (facts(cpus_online=16), "affinity", "may use 8 of the machine's 16 processors"),
    (facts(cpu_quota=1.5), "quota", "The container's quota is 1.5 of 4 cores"),
    ({"tuning": replace(WELL.tuning, busy=True)}, "busy", "Other programs were busy while it was measured"),
    (
        {"settled": Settled(4, repack=False), **facts(memory_available=int(4.9 * GIB))},
        "repack",
        "to repack them takes 5.4 GB of free memory and 5.3 GB are free",
    ),
    (facts(huge_pages="never"), "huge pages", "huge ones are off ('never')"),
    ({"fit": SMALL}, "batch", "Prompts are read 128 tokens at once instead of 512, since 25.8 GB of memory are free"),
    (
        {"trained": 131072, "context_bytes": 30 * GIB},
        "context",
        "4096 of 131072 tokens: all take 32.2 GB of memory, and 21.5 GB are free",
    ),
    ({"file_system": "nfs4"}, "disk", "The file lies on nfs4"),
    ({"remembers": False}, "home", "set MKLLM_RUNTIME_DIR"),
]


@pytest.mark.parametrize("changes,topic,words", ROWS, ids=[row[1] for row in ROWS])
def test_each_cause_has_its_advice_and_no_other(changes, topic, words):
    (advice,) = advise(replace(WELL, **changes))
    assert advice.topic == topic and words in advice.text


def test_every_rule_is_in_the_table():
    assert {row[1] for row in ROWS} == set(RULES)


def test_where_all_is_well_nothing_is_advised():
    assert advise(WELL) == ()


@pytest.mark.parametrize(
    "changes",
    [
        facts(cpus_online=0),
        facts(cpu_quota=4.0),
        {"tuning": None, **facts(huge_pages="never")},
        {"settled": Settled(4, repack=False)},
        {"tuning": Tuning(REPACKED, busy=True)},
        {"fit": None, **facts(memory_available=GIB)},
        {"fit": replace(FIT, batch=128)},
        {"trained": 131072, "context_bytes": GIB},
        facts(memory_total=0, memory_available=0),
        {"facts": replace(FACTS, cpu_flags=frozenset()), "kernels": ("cpu-x64",), "runs": ("cpu-x64",)},
        {"file_system": ""},
    ],
)
def test_what_was_chosen_or_is_not_known_or_does_not_matter_is_left_alone(changes):
    assert advise(replace(WELL, **changes)) == ()
