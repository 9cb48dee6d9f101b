"""What this machine has: CPU features, cores, memory and their limits; looks, decides nothing, never raises.

What cannot be read is left at a safe value and named in `notes`. `MKLLM_PROBE=<file.json>` replaces facts by those in
the file, so that any machine can be played on any other.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
UNLIMITED = 1 << 62
_MEMORY_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


@dataclass(frozen=True)
class Facts:
    """One machine as one process may use it.

    `cores` are physical cores among the `cpus` that the affinity mask allows; `cpu_quota` is the cgroup's, in CPUs.
    Memory is in bytes; `memory_available` respects the cgroup's limit.
    """

    machine: str = "unknown"
    cpu_model: str = "unknown"
    cpu_flags: frozenset[str] = frozenset()
    cpus: int = 1
    cores: int = 1
    cpu_quota: float | None = None
    memory_total: int = 0
    memory_available: int = 0
    memory_limit: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def threads(self) -> int:
        """How many threads compute best without measuring: the physical cores that this process may use."""
        if self.cpu_quota is None:
            return self.cores
        return max(1, min(self.cores, int(self.cpu_quota)))


def probe(root: Path = Path("/")) -> Facts:
    """Look at the machine; `root` stands for `/` (another one in tests)."""
    notes: list[str] = []

    def look(what: str, read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except (OSError, ValueError, LookupError) as error:
            notes.append(f"{what} unknown: {error}")
            return default

    no_features: tuple[str, frozenset[str]] = ("unknown", frozenset())
    no_limit: tuple[int | None, int] = (None, UNLIMITED)
    no_groups: list[_Group] = []
    cpus = look("affinity", lambda: sorted(os.sched_getaffinity(0)), [0])
    model, flags = look("CPU features", lambda: _cpu_features(root), no_features)
    total, available = look("memory", lambda: _memory(root), (0, 0))
    groups = look("cgroup", lambda: list(_groups(root)), no_groups)
    limit, free = look("memory limit", lambda: _memory_limit(groups), no_limit)
    facts = Facts(
        machine=os.uname().machine,
        cpu_model=model,
        cpu_flags=flags,
        cpus=len(cpus),
        cores=look("cores", lambda: _cores(root, cpus), len(cpus)),
        cpu_quota=look("CPU limit", lambda: _cpu_quota(groups), None),
        memory_total=total,
        memory_available=max(0, min(available, free)),
        memory_limit=limit,
    )
    return _played(dataclasses.replace(facts, notes=tuple(notes)), os.environ.get("MKLLM_PROBE"))


def _cpu_features(root: Path) -> tuple[str, frozenset[str]]:
    """Of the first processor; the rest of the file is not read (it is long, and slow, on machines with many cores)."""
    model = "unknown"
    with (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                return model, frozenset(value.split())
    raise ValueError("no flags in /proc/cpuinfo")


def _cores(root: Path, cpus: list[int]) -> int:
    """Threads of one core name the same list of siblings."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({(root / topology.format(cpu)).read_text() for cpu in cpus}) or 1


def _memory(root: Path) -> tuple[int, int]:
    lines = (root / "proc/meminfo").read_text().splitlines()
    values = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines) if rest}
    return values["MemTotal"], values.get("MemAvailable", values.get("MemFree", 0))


@dataclass(frozen=True)
class _Group:
    """One directory of a cgroup hierarchy; `version` 1 or 2."""

    folder: Path
    version: int

    def read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text().strip()
        except OSError:
            return None


def _groups(root: Path) -> Iterator[_Group]:
    """This process's control groups and all above them: a limit anywhere on the way up holds."""
    mount = root / "sys/fs/cgroup"
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and not {"cpu", "memory"} & set(controllers.split(",")):
            continue
        top = mount / controllers if controllers else mount
        folder = top / path.strip("/")
        while True:
            yield _Group(folder, 1 if controllers else 2)
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _cpu_quota(groups: list[_Group]) -> float | None:
    quotas = []
    for group in groups:
        if group.version == 2:
            quota, _, period = (group.read("cpu.max") or "max 100000").partition(" ")
        else:
            quota, period = group.read("cpu.cfs_quota_us") or "-1", group.read("cpu.cfs_period_us") or "100000"
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _memory_limit(groups: list[_Group]) -> tuple[int | None, int]:
    """The tightest limit, and what is left of the tightest rest (page cache that can be dropped counts as free)."""
    limits, rests = [], []
    for group in groups:
        maximum, current = _MEMORY_FILES[group.version]
        limit = group.read(maximum)
        if limit is None or limit == "max" or int(limit) >= UNLIMITED:
            continue
        stat = dict(line.split()[:2] for line in (group.read("memory.stat") or "").splitlines() if " " in line)
        droppable = int(stat.get("inactive_file", stat.get("total_inactive_file", "0")))
        limits.append(int(limit))
        rests.append(int(limit) - max(0, int(group.read(current) or "0") - droppable))
    return min(limits, default=None), min(rests, default=UNLIMITED)


def _fits(name: str, value: object) -> bool:
    """Whether a value from outside can stand for the fact of this name."""
    if name in ("cpu_flags", "notes"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if value is None:
        return name in ("cpu_quota", "memory_limit")
    kind = {"cpu_quota": (int, float), "memory_limit": int}.get(name, type(getattr(Facts(), name)))
    return isinstance(value, kind) and not isinstance(value, bool)


def _played(facts: Facts, file: str | None) -> Facts:
    """`facts` with those of the JSON object in `file` put over them."""
    if not file:
        return facts
    try:
        given: Any = json.loads(Path(file).read_text("utf-8"))
        known = {field.name for field in dataclasses.fields(Facts)}
        if not isinstance(given, dict) or not set(given) <= known:
            raise ValueError(f"it must be an object of {', '.join(sorted(known))}")
        for name, value in given.items():
            if not _fits(name, value):
                raise ValueError(f"{name!r} has the value {value!r:.40}")
        given = {**given, "cpu_flags": frozenset(given.get("cpu_flags", facts.cpu_flags))}
        return dataclasses.replace(facts, **{**given, "notes": (*facts.notes, f"played from MKLLM_PROBE={file!r}")})
    except (OSError, ValueError, TypeError) as error:
        return dataclasses.replace(facts, notes=(*facts.notes, f"MKLLM_PROBE={file!r} is not used: {error}"))
