"""The kernel, the threads and the reasons on known machines, which machines.toml describes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.hardware.variants import VARIANTS

TABLE = tomllib.loads(Path(__file__).with_name("machines.toml").read_text("utf-8"))
MACHINES: list[dict[str, Any]] = TABLE["machine"]


def facts(machine: dict[str, Any]) -> Facts:
    """What probe() would say of it; memory is free to three quarters."""
    flags = " ".join(TABLE["flags"][name] for name in machine["flags"].split())
    return Facts(
        machine=machine.get("machine", "x86_64"),
        cpu_model=machine["name"],
        cpu_flags=frozenset(flags.split()),
        cpus=machine.get("cpus", machine["cores"]),
        cores=machine["cores"],
        fast_cores=machine.get("fast_cores"),
        cpu_quota=machine.get("quota"),
        numa_nodes=machine.get("numa_nodes", 1),
        memory_total=machine["memory"] << 30,
        memory_available=(machine["memory"] << 30) * 3 // 4,
    )


def backends(machine: str) -> tuple[Backend, ...]:
    return tuple(Backend(row.name, f"native/lib{row.name}.so") for row in VARIANTS if row.machine == machine)


def test_there_are_enough_of_them_and_no_two_alike():
    assert len({machine["name"] for machine in MACHINES}) == len(MACHINES) >= 40


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["name"])
def test_machine(machine):
    seen = facts(machine)
    ranking = rank(seen, backends(seen.machine))
    assert ranking.choices[0].name == machine["kernel"]
    assert seen.threads == machine["threads"]
    if "without" in machine:
        better, reason = machine["without"]
        assert {rejection.name: rejection.reason for rejection in ranking.rejections}[better] == f"skipped, {reason}"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["name"])
def test_all_others_have_their_reason_and_the_plainest_always_runs(machine):
    seen = facts(machine)
    ranking = rank(seen, backends(seen.machine))
    assert ranking.choices[-1].name in ("cpu-x64", "cpu-armv8.0_1", "cpu-apple_m1")
    assert len(ranking.choices) + len(ranking.rejections) == len(backends(seen.machine))
    assert all(rejection.reason.startswith("skipped, no ") for rejection in ranking.rejections)
