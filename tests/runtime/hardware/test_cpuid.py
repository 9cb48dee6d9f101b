"""What processors say of themselves, and what that is worth beside the kernel's list."""

from pathlib import Path

import pytest

from mkllm.runtime.hardware import cpuid
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.variants import VARIANTS

HASWELL = "7ffafbff,27ab,0,0,0,7"
SAPPHIRE_RAPIDS = "fffaf38b,f3bfbffb,fb417ffe,ffdd4432,1c30,600e7"
EMULATED_CORE2 = "82201,0,0,0,0,0"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`machine(text, own)`: the facts where /proc/cpuinfo is `text` and the processor says `own`."""
    monkeypatch.delenv("MKLLM_PROBE", raising=False)
    monkeypatch.delenv("MKLLM_CPUID", raising=False)

    def facts(text: str | None, own: str | None) -> Facts:
        if own is not None:
            monkeypatch.setenv("MKLLM_CPUID", own)
        if text is not None:
            (tmp_path / "proc").mkdir()
            (tmp_path / "proc" / "cpuinfo").write_text(text)
        return probe(tmp_path)

    return facts


def about_cpu(facts: Facts) -> list[str]:
    return [note for note in facts.notes if "cpuinfo lists" in note or "own word" in note]


def test_known_processors():
    assert cpuid.features(HASWELL) == {"sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"}
    assert cpuid.features(SAPPHIRE_RAPIDS) == cpuid.FEATURES.keys()
    assert cpuid.features(EMULATED_CORE2) == set()


def test_what_the_system_does_not_save_is_not_there():
    wide = {name for name in cpuid.FEATURES if name.startswith(("avx512", "amx"))}
    assert cpuid.features(SAPPHIRE_RAPIDS.replace("600e7", "7")) == cpuid.FEATURES.keys() - wide
    assert cpuid.features(SAPPHIRE_RAPIDS.replace("600e7", "0")) == {"sse4_2", "bmi2"}


def test_every_feature_that_a_variant_needs_is_known():
    needed = {flag for variant in VARIANTS if variant.machine == "x86_64" for flag in variant.needs}
    assert needed == cpuid.FEATURES.keys()


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5,6,7", "1,2,3,4,5,zmm"])
def test_what_is_not_understood_is_not_used(machine, text):
    facts = machine("flags : fpu avx2\n", text)
    assert facts.cpu_flags == {"fpu", "avx2"} and "the processor's own word unknown" in str(facts.notes)


def test_a_list_of_the_same_processor_is_taken_as_it_is(machine):
    facts = machine("flags : fpu sse4_2 avx f16c fma bmi2 avx2\n", HASWELL)
    assert facts.cpu_flags == {"fpu", "sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"} and not about_cpu(facts)


def test_what_the_processor_denies_is_not_used(machine):
    facts = machine("flags : fpu sse4_2 avx avx2 aes\n", EMULATED_CORE2)
    assert facts.cpu_flags == {"fpu", "aes"}
    assert about_cpu(facts) == ["/proc/cpuinfo lists avx, avx2, sse4_2, the processor itself does not"]


def test_what_the_kernel_switched_off_is_not_used(machine):
    facts = machine("flags : fpu sse4_2\n", HASWELL)
    assert facts.cpu_flags == {"fpu", "sse4_2"} and not about_cpu(facts)


@pytest.mark.parametrize("text", [None, "", "Features : fp asimd asimddp\nCPU implementer : 0x41\n"])
def test_without_a_list_of_this_processor_its_own_word_counts(machine, text):
    facts = machine(text, HASWELL)
    assert facts.cpu_flags == cpuid.features(HASWELL)
    assert about_cpu(facts) == ["/proc/cpuinfo lists no features of this processor: its own word (CPUID) is taken"]
