"""What this machine has: CPU features, cores, memory and their limits; looks, decides nothing, never raises.

What cannot be read is left at a safe value and named in `notes`. `MKLLM_PROBE=<file.json>` replaces facts by those in
the file, so that any machine can be played on any other.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mkllm.runtime.hardware.devices import Look

from mkllm.runtime.hardware import cpuid

T = TypeVar("T")
UNLIMITED = 1 << 62
ARM = "aarch64"
FAST = 0.6  # big cores of one chip differ by up to a third; the little ones have less than half
_MEMORY_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


@dataclass(frozen=True)
class Facts:
    """One machine as one process may use it.

    `cores` are physical cores among the `cpus` that the affinity mask allows, `fast_cores` those of them that are not
    of the slow kind; `cpus_online` are all that the machine runs, 0 where that is not known; `cpu_quota` is the
    cgroup's, in CPUs. `caches` are those that the first of the processors has or shares, in bytes by level (`L1`).
    Memory is in bytes; `memory_available` respects the cgroup's limit. `huge_pages` is the kernel's policy for
    anonymous memory: always, madvise or never. `gpus`: what was seen through those backends of
    the artifact that compute on GPUs; not by `probe`, which starts nothing, but by `runtime/engine/look.py`.
    """

    machine: str = "unknown"
    cpu_vendor: str = "unknown"
    cpu_model: str = "unknown"
    cpu_flags: frozenset[str] = frozenset()
    cpus: int = 1
    cpus_online: int = 0
    cores: int = 1
    fast_cores: int | None = None
    cpu_quota: float | None = None
    numa_nodes: int = 1
    caches: Mapping[str, int] = field(default_factory=dict)
    huge_pages: str = "unknown"
    memory_total: int = 0
    memory_available: int = 0
    memory_limit: int | None = None
    gpus: "tuple[Look, ...]" = ()
    notes: tuple[str, ...] = ()

    @property
    def threads(self) -> int:
        """How many threads compute best without measuring: the fast physical cores that this process may use.

        The threads wait for each other after every layer, so a slow core makes the fast ones wait.
        """
        cores = self.cores if self.fast_cores is None else min(self.fast_cores, self.cores)
        return max(1, cores if self.cpu_quota is None else min(cores, int(self.cpu_quota)))

    def as_object(self) -> dict[str, Any]:
        """For JSON, always in the same order."""
        return {**dataclasses.asdict(self), "cpu_flags": sorted(self.cpu_flags)}


class Looking:
    """Reads one thing of the machine after the other; what cannot be seen is the default, and a note."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, what: str, read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except (OSError, ValueError, LookupError) as error:
            self.notes.append(f"{what} unknown: {error}")
            return default


def probe(root: Path = Path("/")) -> Facts:
    """Look at the machine; `root` stands for `/` of a Linux system (another one in tests)."""
    if sys.platform == "win32":
        from mkllm.runtime.platform.windows.facts import facts

        return _played(facts(), os.environ.get("MKLLM_PROBE"))
    if sys.platform == "darwin":
        from mkllm.runtime.platform.macos.facts import facts

        return _played(facts(), os.environ.get("MKLLM_PROBE"))
    look = Looking()
    no_features = _Features("unknown", "unknown", frozenset())
    no_limit: tuple[int | None, int] = (None, UNLIMITED)
    no_groups: list[_Group] = []
    cpus = look("affinity", lambda: sorted(os.sched_getaffinity(0)), [0])
    listed = look("CPU features", lambda: _cpu_features(root), no_features)
    machine = os.uname().machine
    own = look("the processor's own word", lambda: _own_word(os.environ, machine), None)
    total, available = look("memory", lambda: _memory(root), (0, 0))
    groups = look("cgroup", lambda: list(_groups(root)), no_groups)
    limit, free = look("memory limit", lambda: _memory_limit(groups), no_limit)
    flags, contradiction = _agreed(listed, own, machine)
    facts = Facts(
        machine=machine,
        cpu_vendor=listed.vendor,
        cpu_model=listed.model,
        cpu_flags=flags,
        cpus=len(cpus),
        cpus_online=look("processors", lambda: _online(root), 0),
        cores=look("cores", lambda: _cores(root, cpus), len(cpus)),
        fast_cores=look("fast cores", lambda: _fast_cores(root, cpus), None),
        cpu_quota=look("CPU limit", lambda: _cpu_quota(groups), None),
        numa_nodes=look("NUMA nodes", lambda: _numa_nodes(root), 1),
        caches=look("caches", lambda: _caches(root, cpus[0]), {}),
        huge_pages=look("huge pages", lambda: _huge_pages(root), "unknown"),
        memory_total=total,
        memory_available=max(0, min(available, free)),
        memory_limit=limit,
    )
    return _played(dataclasses.replace(facts, notes=(*look.notes, *contradiction)), os.environ.get("MKLLM_PROBE"))


@dataclass(frozen=True)
class _Features:
    """What /proc/cpuinfo says; `x86`: it is that of an x86 processor, `arm`: of an ARM one."""

    vendor: str
    model: str
    flags: frozenset[str]
    x86: bool = False
    arm: bool = False


def _own_word(environment: Mapping[str, str], machine: str) -> frozenset[str] | None:
    """What the processor that runs this program says of itself, as the entry read it; None without an entry."""
    text = environment.get(cpuid.VARIABLE)
    if text is None:
        return None
    if machine != ARM:
        return cpuid.features(text)
    from mkllm.runtime.hardware import hwcap

    return hwcap.features(text)


def _agreed(listed: _Features, own: frozenset[str] | None, machine: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """The features that may be used, and a note where the kernel's list is not of this processor.

    Both must name a feature: the kernel leaves out what it has switched off; the processor, what the machine around the
    kernel's list has and an emulator or a virtual machine does not give. A list of another kind of machine (an emulated
    program sees the real one's), or none, counts for nothing.
    """
    if own is None:
        return listed.flags, ()
    is_listed, words, known = listed.x86, "CPUID", frozenset(cpuid.FEATURES)
    if machine == ARM:
        from mkllm.runtime.hardware import hwcap

        is_listed, words, known = listed.arm, "HWCAP", frozenset(hwcap.FEATURES)
    if not is_listed:
        return own, (f"/proc/cpuinfo lists no features of this processor: its own word ({words}) is taken",)
    denied = sorted(listed.flags & known - own)
    if not denied:
        return listed.flags, ()
    return listed.flags - set(denied), (f"/proc/cpuinfo lists {', '.join(denied)}, the processor itself does not",)


def _cpu_features(root: Path) -> _Features:
    """Of the first processor; the rest of the file is not read (it is long, and slow, on machines with many cores).

    An ARM processor has no name there, but the numbers of its maker and its part.
    """
    values: dict[str, str] = {}
    with (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, value = (part.strip() for part in line.partition(":"))
            if not key and values.keys() & {"flags", "Features"}:
                break
            values.setdefault(key, value)
    flags = values.get("flags", values.get("Features"))
    if flags is None:
        raise ValueError("no flags in /proc/cpuinfo")
    vendor, part = values.get("CPU implementer"), values.get("CPU part")
    name = values.get("model name") or (f"ARM implementer {vendor}, part {part}" if vendor else "unknown")
    return _Features(
        values.get("vendor_id") or vendor or "unknown",
        name,
        frozenset(flags.split()),
        "flags" in values,
        "Features" in values,
    )


def _cores(root: Path, cpus: Sequence[int]) -> int:
    """Threads of one core name the same list of siblings."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({(root / topology.format(cpu)).read_text() for cpu in cpus}) or 1


def _fast_cores(root: Path, cpus: Sequence[int]) -> int | None:
    """Cores with at least FAST of the largest capacity; where the kernel names none, those that Intel lists."""
    if not cpus:
        return None
    capacity = "sys/devices/system/cpu/cpu{}/cpu_capacity"
    if (root / capacity.format(cpus[0])).exists():
        capacities = {cpu: int((root / capacity.format(cpu)).read_text()) for cpu in cpus}
        most = max(capacities.values())
        return _cores(root, [cpu for cpu, value in capacities.items() if value >= FAST * most])
    listed = root / "sys/devices/cpu_core/cpus"
    if not listed.exists():
        return None
    fast = sorted(_numbers(listed.read_text()) & set(cpus))
    return _cores(root, fast) if fast else None


def _numbers(text: str) -> set[int]:
    """Those of a list such as `0-3,8`."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _online(root: Path) -> int:
    listed = root / "sys/devices/system/cpu/online"
    return len(_numbers(listed.read_text())) if listed.exists() else 0


def _numa_nodes(root: Path) -> int:
    """Nodes that have memory; 1 where the kernel knows of none."""
    listed = root / "sys/devices/system/node/has_memory"
    return len(_numbers(listed.read_text())) if listed.exists() else 1


def _caches(root: Path, cpu: int) -> dict[str, int]:
    """Data caches of one processor: `L1`, `L2`, `L3`."""
    found = {}
    for index in sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index[0-9]*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        text = (index / "size").read_text().strip()
        factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        found["L" + (index / "level").read_text().strip()] = int(text.rstrip("KMG")) * factor
    return found


def _huge_pages(root: Path) -> str:
    """The word in brackets of `always [madvise] never`."""
    text = (root / "sys/kernel/mm/transparent_hugepage/enabled").read_text()
    return text.partition("[")[2].partition("]")[0] or "unknown"


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
        droppable = sum(
            int(stat.get(name, stat.get("total_" + name, "0"))) for name in ("inactive_file", "active_file")
        )
        limits.append(int(limit))
        rests.append(int(limit) - max(0, int(group.read(current) or "0") - droppable))
    return min(limits, default=None), min(rests, default=UNLIMITED)


def _fits(name: str, value: object) -> bool:
    """Whether a value from outside can stand for the fact of this name."""
    if name in ("cpu_flags", "notes"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if name == "gpus":
        return isinstance(value, list)
    if value is None:
        return name in ("cpu_quota", "memory_limit", "fast_cores")
    if name == "caches":
        return isinstance(value, dict) and all(isinstance(item, int) for item in value.values())
    kinds: dict[str, type | tuple[type, ...]] = {"cpu_quota": (int, float), "memory_limit": int, "fast_cores": int}
    return isinstance(value, kinds.get(name, type(getattr(Facts(), name)))) and not isinstance(value, bool)


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
        if "cores" in given:
            given = {"fast_cores": None, **given}
        if "cpus" in given:
            given = {"cpus_online": given["cpus"], **given}
        given = {**given, "cpu_flags": frozenset(given.get("cpu_flags", facts.cpu_flags))}
        if "gpus" in given:
            from mkllm.runtime.hardware.devices import looks_from

            given = {**given, "gpus": looks_from(given["gpus"])}
        return dataclasses.replace(facts, **{**given, "notes": (*facts.notes, f"played from MKLLM_PROBE={file!r}")})
    except (OSError, ValueError, TypeError) as error:
        return dataclasses.replace(facts, notes=(*facts.notes, f"MKLLM_PROBE={file!r} is not used: {error}"))
