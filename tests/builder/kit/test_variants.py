"""Choosing CPU variants."""

from pathlib import Path

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.variants import all_variants, best, host_flags, resolve

HASWELL = frozenset("sse4_2 avx f16c fma bmi2 avx2".split())


def test_all_are_those_of_upstream() -> None:
    assert resolve("all") == tuple(
        sorted(
            "x64 sse42 sandybridge ivybridge piledriver haswell skylakex cannonlake cascadelake icelake cooperlake "
            "zen4 alderlake sapphirerapids".split()
        )
    )


def test_host_is_the_best_and_the_baseline() -> None:
    assert resolve("host", HASWELL | {"sse4_1", "popcnt"}) == ("haswell", "x64")
    assert resolve("host", frozenset()) == ("x64",)


def test_every_variant_is_the_best_of_its_own_needs() -> None:
    for name, needs in all_variants().items():
        assert best(needs) == name


def test_unknown_choice() -> None:
    with pytest.raises(NoKit, match="no set of variants called 'most': choose 'all' or 'host'"):
        resolve("most")


def test_flags_of_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert host_flags(cpuinfo) == {"fpu", "sse4_2", "avx"}
    assert host_flags(tmp_path / "none") == frozenset()
