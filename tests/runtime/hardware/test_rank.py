"""Which kernel known processors get, and in what words."""

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.hardware.variants import VARIANTS

AVX2 = "sse4_2 avx f16c fma bmi2 avx2"
AVX512 = f"{AVX2} avx512f avx512cd avx512vl avx512dq avx512bw"
X86 = tuple(Backend(row.name, f"native/lib{row.name}.so") for row in VARIANTS if row.machine == "x86_64")
PROCESSORS = {
    "first Opteron": ("sse2", "cpu-x64"),
    "Nehalem": ("sse4_2", "cpu-sse42"),
    "Sandy Bridge": ("sse4_2 avx", "cpu-sandybridge"),
    "Ivy Bridge": ("sse4_2 avx f16c", "cpu-ivybridge"),
    "Piledriver": ("sse4_2 avx f16c fma bmi1", "cpu-piledriver"),
    "Haswell, Zen 3": (AVX2, "cpu-haswell"),
    "Alder Lake": (f"{AVX2} avx_vnni", "cpu-alderlake"),
    "Skylake-X": (AVX512, "cpu-skylakex"),
    "Cannon Lake": (f"{AVX512} avx512vbmi", "cpu-cannonlake"),
    "Cascade Lake": (f"{AVX512} avx512_vnni", "cpu-cascadelake"),
    "Ice Lake": (f"{AVX512} avx512vbmi avx512_vnni", "cpu-icelake"),
    "Cooper Lake": (f"{AVX512} avx512_vnni avx512_bf16", "cpu-cooperlake"),
    "Zen 4": (f"{AVX512} avx512vbmi avx512_vnni avx512_bf16", "cpu-zen4"),
    "Sapphire Rapids": (
        f"{AVX512} avx512vbmi avx512_vnni avx512_bf16 avx_vnni amx_tile amx_int8 amx_bf16",
        "cpu-sapphirerapids",
    ),
}


def on(flags: str, machine: str = "x86_64") -> Facts:
    return Facts(machine=machine, cpu_flags=frozenset(flags.split()))


def test_table_has_all_variants():
    assert len(VARIANTS) == len({row.name for row in VARIANTS})
    assert len(X86) == 14 and len(VARIANTS) == 14 + 8 + 3


@pytest.mark.parametrize("flags,best", PROCESSORS.values(), ids=PROCESSORS)
def test_best_kernel(flags, best):
    ranking = rank(on(flags), X86)
    assert ranking.choices[0].name == best
    assert ranking.choices[-1].name == "cpu-x64"
    assert {c.name for c in ranking.choices} | {r.name for r in ranking.rejections} == {b.name for b in X86}


def test_sentences():
    ranking = rank(on(PROCESSORS["Ice Lake"][0]), X86)
    reasons = {rejection.name: rejection.reason for rejection in ranking.rejections}
    assert reasons["cpu-zen4"] == "skipped, no avx512_bf16"
    zen4 = rank(on(PROCESSORS["Zen 4"][0]), X86).choices[0]
    assert zen4.sentence == "cpu-zen4 (AVX-512 with VNNI and BF16; best of 14)"


def test_order_of_the_artifact_does_not_matter():
    facts = on(AVX2)
    assert rank(facts, X86) == rank(facts, X86[::-1])


def test_one_backend_is_the_only_one():
    assert rank(on(AVX2), X86[-1:]).choices[0].reason == "plain x86-64; the only one"


def test_another_machine_runs_none():
    ranking = rank(on(AVX2, "aarch64"), X86)
    assert not ranking.choices
    assert ranking.rejections[0].reason == "skipped, made for x86_64, this machine is aarch64"


def test_asking_for_one_rejects_the_others():
    ranking = rank(on(AVX2), X86, only="cpu-sse42")
    assert [choice.name for choice in ranking.choices] == ["cpu-sse42"]
    assert "'cpu-sse42' was asked for" in {r.name: r.reason for r in ranking.rejections}["cpu-haswell"]


def test_unknown_backend_is_rejected_and_named():
    ranking = rank(on(AVX2), (Backend("npu", "native/libnpu.so"),))
    assert ranking.rejections[0].reason == "skipped, this program does not know what it needs"
