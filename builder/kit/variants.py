"""Which CPU variants of ggml a kit holds: names only; what each needs is said once, in the runtime's variants.toml."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from mkllm.builder.errors import NoKit

BASELINE = "x64"
CPUINFO = Path("/proc/cpuinfo")


@cache
def all_variants(machine: str = "x86_64") -> dict[str, frozenset[str]]:
    """Variants, best first, with the flags of /proc/cpuinfo that each needs."""
    text = resources.files("mkllm.runtime").joinpath("hardware/variants.toml").read_text("utf-8")
    entries = [entry for entry in tomllib.loads(text)["variant"] if entry["machine"] == machine]
    return {entry["name"].removeprefix("cpu-"): frozenset(entry["needs"]) for entry in entries}


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
