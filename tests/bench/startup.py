"""Start-up: instructions that an artifact's own program (entry and Python) takes until it starts its engine.

Counted by QEMU (qemu-user with its plugins, instructions.c) of the artifacts for x86-64 and for ARM, and told as the
time that the processor of a Raspberry Pi 4 would take at a rate that is assumed, not measured.

Usage: python tests/bench/startup.py   (artifacts of the demo model, built now with the kits for both systems)
"""

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import median, report

from mkllm.builder import cache
from mkllm.builder.kit import toolchain

ROUNDS = 3
SECONDS = 300
PLUGIN = Path(__file__).with_name("instructions.c")
# Of a Raspberry Pi 4's Cortex-A72: 1.5 GHz as first sold, 1.8 GHz since 2021. One instruction a cycle is assumed, of
# the three that it can decode: an interpreter misses caches and branches.
CLOCKS = (1.5e9, 1.8e9)
PER_CYCLE = 1.0
LIMIT = 0.5


@dataclass(frozen=True)
class System:
    """`calls` are the numbers of the system calls by one of which the engine is the first process to be started."""

    target: str
    qemu: str
    cpu: str
    calls: tuple[int, ...]
    root: Path | None = None


SYSTEMS = (
    System("linux-x86_64", "qemu-x86_64", "max", (56, 58)),
    System("linux-aarch64", "qemu-aarch64", "cortex-a72", (220,), cache.folder("roots") / "glibc-2.17-aarch64"),
)


def instructions(system: System, artifact: Path, plugin: Path, home: Path) -> float:
    """Until the engine is started. On ARM QEMU 7.2 cannot go on in that process with a plugin, so the engine fails
    there; what is counted is over by then."""
    marks = home / "marks"
    marks.unlink(missing_ok=True)
    options = f"{plugin},calls={':'.join(map(str, system.calls))},out={marks}"
    root = {"QEMU_LD_PREFIX": str(system.root)} if system.root else {}
    subprocess.run(
        [system.qemu, "-cpu", system.cpu, "-plugin", options, artifact, "-p", "hi"],
        env={"PATH": os.environ["PATH"], "MKLLM_RUNTIME_DIR": str(home), **root},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return float(marks.read_text().split()[2])


def measured(system: System, folder: Path, plugin: Path) -> float:
    if not shutil.which(system.qemu):
        raise SystemExit(f"there is no {system.qemu}: install qemu-user")
    artifact, home = folder / system.target, folder / f"home-{system.target}"
    subprocess.run(["mkllm", "build", "demo", "-o", artifact, "--target", system.target, "-q"], check=True)
    home.mkdir()
    counted = [instructions(system, artifact, plugin, home) for _ in range(ROUNDS + 1)]
    return median(counted[1:])  # the first fills the home


def main() -> None:
    if platform.machine() != "x86_64":
        raise SystemExit("QEMU's plugin is compiled for x86-64 here: run this on such a machine")
    with tempfile.TemporaryDirectory() as made:
        plugin = Path(made) / "libinstructions.so"
        compiler = [toolchain.find_zig(), "cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra"]
        subprocess.run([*compiler, PLUGIN, "-o", plugin], check=True)
        counts = {system: measured(system, Path(made), plugin) for system in SYSTEMS}
    rows = [
        [system.target, f"{count / 1e6:.0f} M", *(_seconds(count, clock) for clock in CLOCKS)]
        for system, count in counts.items()
    ]
    arm = counts[SYSTEMS[1]]
    verdict = "under" if arm / PER_CYCLE / CLOCKS[0] < LIMIT else "over"
    text = (
        "Instructions of the artifact's own program (entry and Python, no engine) from exec until it starts the "
        "engine, with its home in place, counted by QEMU. The seconds are no measurement: they are what a Cortex-A72 "
        f"would take for as many instructions at an assumed {PER_CYCLE:.0f} a cycle, with nothing to be read from a "
        f"disk. ARM's are {verdict} {LIMIT} s at {CLOCKS[0] / 1e9} GHz, and {arm / counts[SYSTEMS[0]]:.2f} of those "
        "on x86-64."
    )
    header = ["target", "instructions", *(f"Cortex-A72, {clock / 1e9} GHz" for clock in CLOCKS)]
    report("startup", "Start-up of the artifact's own program", text, header, rows)


def _seconds(count: float, clock: float) -> str:
    return f"{count / PER_CYCLE / clock:.2f} s"


if __name__ == "__main__":
    main()
