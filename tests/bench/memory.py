"""Memory: what a second instance of an artifact adds, and whether the weights are mapped from the artifact itself.

Usage: python tests/bench/memory.py MODEL.gguf
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from measure import chat, engine_of, free_port, pss, report, rss, served

FLAGS = ["--ctx-size", "2048", "--parallel", "1"]


def mapped_bytes(process: psutil.Process, file: Path) -> int:
    """Bytes of `file` mapped and resident in the process (/proc/PID/smaps)."""
    total, inside = 0, False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = line.endswith(str(file))
        elif inside and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


def anonymous(process: psutil.Process) -> int:
    """Bytes of the process that no other can share."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Anonymous:"))


def tree_pss(process: psutil.Process) -> int:
    return sum(pss(each) for each in [process, *process.children(recursive=True)])


def main(model: Path) -> None:
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        artifact = Path(folder) / "artifact"
        subprocess.run(["mkllm", "build", model, "-o", artifact, "-q"], check=True)
        one, two = free_port(), free_port()

        def start(port: int) -> list[str | Path]:
            return [artifact, "--no-browser", "--port", str(port), *FLAGS]

        with served(start(one), one) as first:
            chat(one, "hello", 4)
            engine, before = engine_of(first.process), tree_pss(first.process)
            facts = [rss(engine), mapped_bytes(engine, artifact), anonymous(engine)]
            with served(start(two), two) as second:
                chat(two, "hello", 4)
                added = tree_pss(first.process) + tree_pss(second.process) - before
    size = model.stat().st_size
    names = ["engine, resident", "mapped from the artifact's file", "private", "added by a second instance (PSS)"]
    values = zip(names, [*facts, added], strict=True)
    rows = [[name, f"{value / 2**20:.0f} MiB", f"{value / size:.1%}"] for name, value in values]
    text = f"A {size / 1e9:.2f} GB model, served twice at once from one artifact, each having answered once."
    report(f"memory-{model.stem}", f"Memory of {model.stem}", text, ["", "", "of the model's size"], rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
