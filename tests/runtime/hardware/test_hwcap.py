"""What Linux tells programs of ARM processors, and what that is worth beside the list in /proc/cpuinfo."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mkllm.runtime.hardware import hwcap
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.variants import VARIANTS

CORTEX_A53 = "8ff,0"  # a Raspberry Pi 3, and with it all of ARMv8.0
CORTEX_A76 = "119fff,0"  # a Raspberry Pi 5: half precision and dot products
EVERYTHING = "efffffff,8ffffff"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`machine(text, own)`: the facts on an ARM machine where /proc/cpuinfo is `text` and the entry was told `own`."""
    monkeypatch.delenv("MKLLM_PROBE", raising=False)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))

    def facts(text: str, own: str | None) -> Facts:
        monkeypatch.delenv("MKLLM_CPUID", raising=False)
        if own is not None:
            monkeypatch.setenv("MKLLM_CPUID", own)
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cpuinfo").write_text(text)
        return probe(tmp_path)

    return facts


def about_cpu(facts: Facts) -> list[str]:
    return [note for note in facts.notes if "cpuinfo lists" in note or "own word" in note]


def test_known_processors():
    assert hwcap.features(CORTEX_A53) == set()
    assert hwcap.features(CORTEX_A76) == {"asimdhp", "asimddp"}
    assert hwcap.features(EVERYTHING) == hwcap.FEATURES.keys()


def test_every_feature_that_a_variant_needs_is_known():
    needed = {flag for variant in VARIANTS if variant.machine == "aarch64" for flag in variant.needs}
    assert needed == hwcap.FEATURES.keys()


def test_a_list_of_the_same_processor_is_taken_as_it_is(machine):
    facts = machine("Features\t: fp asimd asimdhp asimddp\n", CORTEX_A76)
    assert facts.cpu_flags == {"fp", "asimd", "asimdhp", "asimddp"} and not about_cpu(facts)


def test_without_an_entry_the_list_counts(machine):
    assert machine("Features\t: fp asimd asimddp\n", None).cpu_flags == {"fp", "asimd", "asimddp"}


def test_the_list_of_another_kind_of_processor_counts_for_nothing(machine):
    """As under an emulator of one program on an x86 machine."""
    facts = machine("flags : fpu sse4_2 avx2\n", CORTEX_A76)
    assert facts.cpu_flags == {"asimdhp", "asimddp"}
    assert about_cpu(facts) == ["/proc/cpuinfo lists no features of this processor: its own word (HWCAP) is taken"]


def test_what_the_processor_denies_is_not_used(machine):
    """As under an emulator of one program on a newer ARM machine."""
    facts = machine("Features\t: fp asimdhp asimddp sve\n", CORTEX_A53)
    assert facts.cpu_flags == {"fp"}
    assert about_cpu(facts) == ["/proc/cpuinfo lists asimddp, asimdhp, sve, the processor itself does not"]


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,sve"])
def test_what_is_not_understood_is_not_used(machine, text):
    facts = machine("Features : fp asimddp\n", text)
    assert facts.cpu_flags == {"fp", "asimddp"} and "the processor's own word unknown" in str(facts.notes)
