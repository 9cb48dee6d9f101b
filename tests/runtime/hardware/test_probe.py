"""Facts of machines that are laid out as folders."""

import json
from pathlib import Path

import pytest

from mkllm.runtime.hardware.probe import Facts, probe

CPUINFO = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: other\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nHugePages_Total:       0\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Four CPUs, two to a core, of which three may be used; nothing limits them."""
    lay(tmp_path, "proc/cpuinfo", CPUINFO)
    lay(tmp_path, "proc/meminfo", MEMINFO)
    lay(tmp_path, "proc/self/cgroup", "0::/work/it\n")
    for cpu in range(4):
        siblings = "0-1\n" if cpu < 2 else "2-3\n"
        lay(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    lay(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.delenv("MKLLM_PROBE", raising=False)
    return tmp_path


def lay(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_plain_machine(root):
    facts = probe(root)
    assert (facts.cpu_model, facts.cpu_flags) == ("A CPU", {"fpu", "avx2", "fma"})
    assert (facts.cpus, facts.cores, facts.cpu_quota, facts.threads) == (3, 2, None, 2)
    assert (facts.memory_total, facts.memory_available, facts.memory_limit) == (1_024_000, 614_400, None)
    assert facts.notes == ()


def test_what_else_there_is_to_know(root):
    lay(root, "proc/cpuinfo", "vendor_id\t: GenuineIntel\n" + CPUINFO)
    lay(root, "sys/devices/system/node/has_memory", "0-1\n")
    lay(root, "sys/devices/system/cpu/online", "0-7,16\n")
    lay(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    for index, (kind, level, size) in enumerate([("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 3, "36M")]):
        folder = f"sys/devices/system/cpu/cpu0/cache/index{index}"
        for name, text in {"type": kind, "level": str(level), "size": size}.items():
            lay(root, f"{folder}/{name}", text + "\n")
    facts = probe(root)
    assert (facts.cpu_vendor, facts.numa_nodes, facts.huge_pages) == ("GenuineIntel", 2, "madvise")
    assert facts.cpus_online == 9
    assert facts.caches == {"L1": 48 << 10, "L3": 36 << 20} and facts.notes == ()


def test_slow_cores_by_capacity(root):
    for cpu, capacity in enumerate([1024, 1024, 446, 446]):
        lay(root, f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", f"{capacity}\n")
    facts = probe(root)
    assert (facts.cores, facts.fast_cores, facts.threads) == (2, 1, 1)


def test_cores_that_differ_a_little_are_all_fast(root):
    for cpu, capacity in enumerate([1024, 1024, 780, 780]):
        lay(root, f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", f"{capacity}\n")
    assert probe(root).fast_cores == 2


@pytest.mark.parametrize("listed,fast", [("0-1\n", 1), ("0-3\n", 2), ("0,2\n", 2), ("3\n", None)])
def test_slow_cores_by_intels_list(root, listed, fast):
    """None of those allowed is on the last list, so all that there are must do."""
    lay(root, "sys/devices/cpu_core/cpus", listed)
    facts = probe(root)
    assert (facts.cores, facts.fast_cores, facts.threads) == (2, fast, fast or 2)


def test_an_arm_processor_is_named_by_its_numbers(root):
    text = (
        "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\n"
    )
    lay(root, "proc/cpuinfo", text)
    facts = probe(root)
    assert facts.cpu_model == "ARM implementer 0x41, part 0xd0b" and facts.cpu_flags == {"fp", "asimd", "asimddp"}


def test_cgroup_2_limits_hold_from_any_level(root):
    lay(root, "sys/fs/cgroup/work/cpu.max", "150000 100000\n")
    lay(root, "sys/fs/cgroup/work/it/cpu.max", "max 100000\n")
    lay(root, "sys/fs/cgroup/work/it/memory.max", "500000\n")
    lay(root, "sys/fs/cgroup/work/it/memory.current", "400000\n")
    lay(root, "sys/fs/cgroup/work/it/memory.stat", "anon 1\ninactive_file 60000\nactive_file 40000\n")
    facts = probe(root)
    assert (facts.cpu_quota, facts.threads) == (1.5, 1)
    assert (facts.memory_limit, facts.memory_available) == (500_000, 200_000)


def test_cgroup_1_limits(root):
    lay(root, "proc/self/cgroup", "4:cpu,cpuacct:/work\n3:memory:/work\n2:freezer:/work\n")
    lay(root, "sys/fs/cgroup/cpu,cpuacct/work/cpu.cfs_quota_us", "100000\n")
    lay(root, "sys/fs/cgroup/cpu,cpuacct/work/cpu.cfs_period_us", "100000\n")
    lay(root, "sys/fs/cgroup/memory/work/memory.limit_in_bytes", "300000\n")
    lay(root, "sys/fs/cgroup/memory/work/memory.usage_in_bytes", "100000\n")
    lay(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(0x7FFFFFFFFFFFF000))
    facts = probe(root)
    assert (facts.cpu_quota, facts.threads) == (1.0, 1)
    assert (facts.memory_limit, facts.memory_available) == (300_000, 200_000)


def test_quota_of_less_than_a_cpu_still_gives_a_thread():
    assert Facts(cores=8, cpu_quota=0.5).threads == 1


@pytest.mark.parametrize("broken", ["", "nonsense\n", "MemTotal: many kB\n"])
def test_never_raises(tmp_path, monkeypatch, broken):
    monkeypatch.delenv("MKLLM_PROBE", raising=False)
    lay(tmp_path, "proc/meminfo", broken)
    lay(tmp_path, "proc/self/cgroup", broken)
    facts = probe(tmp_path)
    assert facts.threads >= 1 and facts.memory_available == 0
    assert any(note.startswith("memory unknown") for note in facts.notes)


def test_a_machine_can_be_played(root, tmp_path, monkeypatch):
    lay(tmp_path, "machine.json", json.dumps({"cpu_flags": ["avx512f"], "cores": 64, "machine": "riscv64"}))
    monkeypatch.setenv("MKLLM_PROBE", str(tmp_path / "machine.json"))
    facts = probe(root)
    assert (facts.machine, facts.cores, facts.cpu_flags) == ("riscv64", 64, {"avx512f"})
    assert facts.memory_total == 1_024_000


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"colour": "red"}', '{"cores": "4"}', '{"cores": null}', '{"cpu_flags": [1]}', '{"cpu_quota": "x"}'],
)
def test_a_bad_play_is_named_and_not_used(root, tmp_path, monkeypatch, text):
    lay(tmp_path, "machine.json", text)
    monkeypatch.setenv("MKLLM_PROBE", str(tmp_path / "machine.json"))
    facts = probe(root)
    assert facts.cores == 2 and "is not used" in facts.notes[-1]
