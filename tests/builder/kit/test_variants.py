"""Choosing CPU variants."""

from pathlib import Path

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.target import TARGETS, builder
from mkllm.builder.kit.variants import all_variants, best, host_flags, resolve

LINUX, ARM = TARGETS["linux-x86_64"], TARGETS["linux-aarch64"]
HASWELL = frozenset("sse4_2 avx f16c fma bmi2 avx2".split())


def test_all_are_those_of_upstream() -> None:
    assert resolve(LINUX, "all") == tuple(
        sorted(
            "x64 sse42 sandybridge ivybridge piledriver haswell skylakex cannonlake cascadelake icelake cooperlake "
            "zen4 alderlake sapphirerapids".split()
        )
    )


def test_host_is_the_best_and_the_baseline() -> None:
    assert resolve(builder(), "host", HASWELL | {"sse4_1", "popcnt"}) == ("haswell", "x64")
    assert resolve(builder(), "host", frozenset()) == ("x64",)


def test_another_system_has_those_of_this_processor() -> None:
    assert resolve(TARGETS["windows-x86_64"], "host", HASWELL) == resolve(LINUX, "host", HASWELL)


def test_every_variant_is_the_best_of_its_own_needs() -> None:
    for machine in ("x86_64", "aarch64"):
        for name, needs in all_variants(machine).items():
            assert best(needs, machine) == name


def test_all_of_arm_are_those_of_upstream() -> None:
    names = "armv8.0_1 armv8.2_1 armv8.2_2 armv8.2_3 armv8.6_1 armv8.6_2 armv9.2_1 armv9.2_2"
    assert resolve(ARM, "all") == tuple(names.split())


def test_named_ones_and_the_one_that_runs_everywhere() -> None:
    assert resolve(ARM, "armv8.2_2") == ("armv8.0_1", "armv8.2_2")
    assert resolve(LINUX, "zen4, cpu-haswell") == ("haswell", "x64", "zen4")


def test_another_machine_has_no_variants_of_this_one() -> None:
    other = next(target for target in TARGETS.values() if target.machine != builder().machine)
    with pytest.raises(
        NoKit, match=f"^'host' names the variants of this machine, whose processor is none for '{other.name}': "
    ):
        resolve(other, "host")


def test_unknown_choice() -> None:
    with pytest.raises(NoKit, match="no variant called 'most' for 'linux-aarch64': choose 'all', 'host', or some"):
        resolve(ARM, "most")


def test_flags_of_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert host_flags(cpuinfo) == {"fpu", "sse4_2", "avx"}
    assert host_flags(tmp_path / "none") == frozenset()
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n")
    assert host_flags(cpuinfo) == {"fp", "asimd", "asimddp"}
