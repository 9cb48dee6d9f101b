"""Which CPU variants of ggml a kit holds: names only; what each needs is said once, in the runtime's table."""

from functools import cache
from pathlib import Path

from mkllm.builder.errors import NoKit
from mkllm.runtime.hardware.variants import VARIANTS

BASELINE = "x64"
CPUINFO = Path("/proc/cpuinfo")


@cache
def all_variants(machine: str = "x86_64") -> dict[str, frozenset[str]]:
    """Variants, best first, with the flags of /proc/cpuinfo that each needs."""
    rows = [row for row in VARIANTS if row.machine == machine]
    return {row.name.removeprefix("cpu-"): frozenset(row.needs) for row in rows}


def resolve(choice: str, flags: frozenset[str] | None = None) -> tuple[str, ...]:
    """`all`, or `host`: the best variant for `flags` (this machine's when None) and the one that runs everywhere.

    Sorted. Raises NoKit for another choice.
    """
    if choice == "all":
        return tuple(sorted(all_variants()))
    if choice == "host":
        return tuple(sorted({best(host_flags() if flags is None else flags), BASELINE}))
    raise NoKit(f"there is no set of variants called {choice!r}: choose 'all' or 'host'")


def best(flags: frozenset[str]) -> str:
    """The best variant that a CPU with these flags can run."""
    return next(name for name, needs in all_variants().items() if needs <= flags)


def host_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The CPU flags that Linux reports; none where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    line = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
