"""The facts of a machine that runs Windows; looks, decides nothing."""

import os
import sys
from collections.abc import Mapping

assert sys.platform == "win32"

from mkllm.runtime.hardware import cpuid
from mkllm.runtime.hardware.probe import Facts, Looking
from mkllm.runtime.platform.windows import job, machine, processor
from mkllm.runtime.platform.windows.topology import PROCESSORS, Topology

NO_TOPOLOGY = Topology((), (), 1)


def facts() -> Facts:
    """What cannot be seen is left at a safe value and named in `notes`."""
    look = Looking()
    vendor, model = look("processor", machine.processor, ("unknown", "unknown"))
    allowed: PROCESSORS | None = look("affinity", machine.allowed, None)
    found = look("cores", machine.topology, NO_TOPOLOGY)
    online = look("processors", machine.online, 0)
    total, available = look("memory", machine.memory, (0, 0))
    limit = job.memory_limit()
    cpus = len(allowed) if allowed else online or os.cpu_count() or 1
    cores, fast = _cores(found, allowed)
    none: frozenset[str] = frozenset()
    return Facts(
        machine=machine.machine(),
        cpu_vendor=vendor,
        cpu_model=model,
        cpu_flags=look("CPU features", _flags, none),
        cpus=cpus,
        cpus_online=online,
        cores=cores or cpus,
        fast_cores=fast,
        numa_nodes=found.nodes or 1,
        caches=_caches(found, allowed),
        memory_total=total,
        memory_available=available if limit is None else min(available, limit),
        memory_limit=limit,
        notes=tuple(look.notes),
    )


def _flags() -> frozenset[str]:
    """An entry may have asked the processor already."""
    if machine.machine() != "x86_64":
        return frozenset()
    return cpuid.features(os.environ.get(cpuid.VARIABLE) or processor.registers())


def _cores(found: Topology, allowed: PROCESSORS | None) -> tuple[int, int | None]:
    """Cores that may be used, and those of them that are of the fastest kind if there are several."""
    speeds = [core.speed for core in found.cores if allowed is None or core.processors & allowed]
    kinds = set(speeds)
    return len(speeds), speeds.count(max(kinds)) if len(kinds) > 1 else None


def _caches(found: Topology, allowed: PROCESSORS | None) -> Mapping[str, int]:
    """Those of the first processor that may be used."""
    known = sorted({each for cache in found.caches for each in cache.processors if allowed is None or each in allowed})
    own = [cache for cache in found.caches if known and known[0] in cache.processors]
    return {f"L{cache.level}": cache.size for cache in sorted(own, key=lambda cache: cache.level)}
