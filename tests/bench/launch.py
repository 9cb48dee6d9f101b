"""Launch: an artifact against llama-server started directly on the same GGUF with the same flags, in turn, medians.

Usage: python tests/bench/launch.py MODEL.gguf [ROUNDS]
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from measure import engine_of, free_port, median, report, rss, served

from mkllm.builder.kit.kit import Kit, engine_environment
from mkllm.builder.kit.store import find_kit

FLAGS = ["--ctx-size", "2048", "--threads", "2", "--parallel", "1"]
ENGINE_FLAGS = ["--no-repack"]


@dataclass(frozen=True)
class Sample:
    port_up: float
    ready: float
    engine_rss: int
    others_rss: int


def direct(kit: Kit, model: Path) -> Sample:
    """Of the kit's engine, with the best of its modules."""
    port, engine = free_port(), kit.engine
    args = [engine, "serve", "-m", model, "--host", "127.0.0.1", "--port", str(port), *FLAGS, *ENGINE_FLAGS]
    with served(args, port, engine_environment(kit)) as started:
        return Sample(started.port_up, started.ready, rss(started.process), 0)


def packed(artifact: Path) -> Sample:
    port = free_port()
    with served([artifact, "--no-browser", "--port", str(port), *FLAGS, "--", *ENGINE_FLAGS], port) as started:
        engine = engine_of(started.process)
        others = [process for process in _tree(started.process) if process.pid != engine.pid]
        return Sample(started.port_up, started.ready, rss(engine), sum(rss(process) for process in others))


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def main(model: Path, rounds: int) -> None:
    kit = find_kit("linux-x86_64")
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        artifact = Path(folder) / "artifact"
        subprocess.run(["mkllm", "build", model, "-o", artifact, "-q"], check=True)
        packed(artifact), direct(kit, model)  # warm: page cache, the artifact's home
        pairs = [(direct(kit, model), packed(artifact)) for _ in range(rounds)]
    _report(model, pairs)


def _report(model: Path, pairs: list[tuple[Sample, Sample]]) -> None:
    def column(index: int) -> list[str]:
        samples = [pair[index] for pair in pairs]
        return [
            f"{median([s.port_up for s in samples]):.2f} s",
            f"{median([s.ready for s in samples]):.2f} s",
            f"{median([s.engine_rss for s in samples]) / 2**20:.0f} MiB",
            f"{median([s.others_rss for s in samples]) / 2**20:.1f} MiB",
        ]

    names = ["port answers", "model ready", "engine, resident", "everything else, resident"]
    added = median([b.ready - a.ready for a, b in pairs])
    rows = [list(row) for row in zip(names, column(0), column(1), strict=True)]
    rows.append(["added by the artifact (median of the pairs)", "", f"{added:.2f} s"])
    size = model.stat().st_size / 1e9
    flags = " ".join([*FLAGS, *ENGINE_FLAGS])
    text = (
        f"A {size:.2f} GB model, page cache warm, {len(pairs)} pairs in turn, medians, flags `{flags}`. "
        "Both run the same engine; resident counts shared pages too."
    )
    report(f"launch-{model.stem}", f"Launch of {model.stem}", text, ["", "llama-server", "artifact"], rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7)
