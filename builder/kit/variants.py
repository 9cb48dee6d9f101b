"""Which CPU variants of ggml a kit holds: names only; what each needs is said once, in the runtime's table."""

import platform
from functools import cache
from pathlib import Path

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import target as targets
from mkllm.builder.kit.target import Target
from mkllm.runtime.hardware.variants import VARIANTS

CPUINFO = Path("/proc/cpuinfo")
KERNEL = "cpu-"  # names of CPU variants among backends begin so
FEATURES = ("flags", "Features")  # as x86 and ARM call them there


@cache
def all_variants(machine: str) -> dict[str, frozenset[str]]:
    """Variants for that kind of processor, best first, with the flags of /proc/cpuinfo that each needs."""
    rows = [row for row in VARIANTS if row.machine == machine]
    return {row.name.removeprefix(KERNEL): frozenset(row.needs) for row in rows}


def resolve(target: Target, choice: str, flags: frozenset[str] | None = None) -> tuple[str, ...]:
    """`all`; or `host`: the best variant for `flags` (this machine's when None) and the one that runs everywhere; or
    names with commas between, to which that one is added.

    Sorted. Raises NoKit for another choice, and for `host` where the target has other processors than this machine.
    """
    known = all_variants(target.machine)
    everywhere = baseline(target.machine)
    if choice == "all":
        return tuple(sorted(known))
    if choice == "host":
        here = targets.host()
        if here is None or here.machine != target.machine:
            raise NoKit(
                f"'host' names the variants of this machine, whose processor is none for {target.name!r}: choose "
                f"'all', or name some of {', '.join(known)}"
            )
        return tuple(sorted({best(host_flags() if flags is None else flags, target.machine), everywhere}))
    names = {name.strip().removeprefix(KERNEL) for name in choice.split(",")}
    if unknown := sorted(names - known.keys()):
        raise NoKit(
            f"there is no variant called {unknown[0]!r} for {target.name!r}: choose 'all', 'host', or some of "
            f"{', '.join(known)}"
        )
    return tuple(sorted({*names, everywhere}))


def baseline(machine: str) -> str:
    """The variant that every such processor runs."""
    return next(name for name, needs in all_variants(machine).items() if not needs)


def best(flags: frozenset[str], machine: str | None = None) -> str:
    """The best variant that a CPU with these flags can run; of this machine's kind when none is named."""
    return next(name for name, needs in all_variants(machine or platform.machine()).items() if needs <= flags)


def host_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The CPU flags that Linux reports; none where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    line = next((line for line in lines if line.startswith(FEATURES)), "")
    return frozenset(line.partition(":")[2].split())
