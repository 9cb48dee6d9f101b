"""Build: `mkllm build` of a large GGUF, for the first time and again, against `cp` of it, in turn, medians; memory.

Each from the page cache, and from the disk: a file that was just downloaded, and one that was not.

Usage: python tests/bench/building.py MODEL.gguf [ROUNDS]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measure import median, report

from mkllm.builder import cache

FIRST, AGAIN = "mkllm build", "mkllm build, again"
DISK = ", from the disk"


def timed(args: Sequence[str | Path]) -> tuple[float, int]:
    """Seconds of wall time, data on the disk included, and the largest resident size in bytes of the process."""
    begun = time.perf_counter()
    process = subprocess.Popen([str(word) for word in args], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{args!r} ended with {process.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


def forgotten(path: Path) -> None:
    """Nothing of it is in the page cache any more."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(path: Path) -> None:
    """All of it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def main(model: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        target = Path(folder) / "out"
        ways: dict[str, Callable[[], tuple[float, int]]] = {
            "cp": lambda: timed(["cp", "--reflink=never", model, target]),
            "cp and sync": lambda: timed(["sh", "-c", 'cp --reflink=never "$0" "$1" && sync "$1"', model, target]),
            FIRST: lambda: timed(["mkllm", "build", model, "-o", target, "-q"]),
            AGAIN: lambda: timed(["mkllm", "build", model, "-o", target, "-q"]),
        }
        ways |= {name + DISK: way for name, way in ways.items()}
        samples: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, way in ways.items():
                target.unlink(missing_ok=True)
                os.sync()  # what the one before it left to be written is not this one's to wait for
                if name.removesuffix(DISK) == FIRST:
                    shutil.rmtree(cache.root() / "digests", ignore_errors=True)
                (forgotten if name.endswith(DISK) else cached)(model)
                sample = way()
                samples[name] += [sample] if turn else []
    _report(model, samples)


def _against(seconds: dict[str, float], place: str, told: str) -> str:
    first, again = seconds[FIRST + place], seconds[AGAIN + place]
    plain, synced = seconds["cp" + place], seconds["cp and sync" + place]
    return (
        f"{told}, build against `cp`: {first / plain:.2f}, against `cp` and sync: {first / synced:.2f}; "
        f"again: {again / plain:.2f} and {again / synced:.2f}."
    )


def _report(model: Path, samples: dict[str, list[tuple[float, int]]]) -> None:
    seconds = {name: median([sample[0] for sample in found]) for name, found in samples.items()}
    memory = {name: max(sample[1] for sample in found) / 2**20 for name, found in samples.items()}
    size = model.stat().st_size
    rows = [
        [name, f"{seconds[name]:.2f} s", f"{size / seconds[name] / 1e9:.2f} GB/s", f"{memory[name]:.0f} MiB"]
        for name in samples
    ]
    text = (
        f"A {size / 1e9:.2f} GB GGUF, {len(samples['cp'])} rounds in turn, medians. The build hashes (SHA-256 and "
        "CRC-32), reads back and syncs; plain `cp` does not wait for the disk. A file that was hashed before is only "
        f"copied. {_against(seconds, '', 'From the page cache')} {_against(seconds, DISK, 'From the disk')}"
    )
    report(f"building-{model.stem}", f"Building from {model.stem}", text, ["", "time", "rate", "most resident"], rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
