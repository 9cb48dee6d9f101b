"""Prepacked weights: ready sooner than llama-server, as fast as repacked ones, and without their copy in memory.

Usage: python tests/bench/prepack.py MODEL.gguf [ROUNDS]

In every round each contestant is started once, in turning order, reads one prompt and generates; medians are compared.
"""

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import engine_of, free_port, median, report, served

from mkllm.builder.kit.kit import engine_environment
from mkllm.builder.kit.store import find_kit
from mkllm.builder.kit.variants import best, host_flags

KERNEL = best(host_flags())
FLAGS = ["--ctx-size", "2048", "--threads", "2", "--parallel", "1"]
PROMPT, GENERATED = 256, 24
COLUMNS = ["", "ready", "prompt, tokens/s", "generation, tokens/s", "engine's own memory", "mapped from the file"]


@dataclass(frozen=True)
class Sample:
    """Seconds until the model answers, tokens a second, MiB of memory that are the engine's own, and the file's."""

    ready: float
    prompt: float
    generation: float
    own: float
    mapped: float


def sample(words: Sequence[str | Path], engine_words: Sequence[str], env: Mapping[str, str] | None) -> Sample:
    port = free_port()
    with served([*words, "--port", str(port), *FLAGS, *engine_words], port, env) as started:
        ask(port, 16, 1)
        timings = ask(port, PROMPT, GENERATED)
        engine = started.process if "serve" in words else engine_of(started.process)
        status = Path(f"/proc/{engine.pid}/status").read_text()
        memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if " kB" in line}
    own = memory["RssAnon"] + memory["RssShmem"]
    speeds = timings["prompt_per_second"], timings["predicted_per_second"]
    return Sample(started.ready, *speeds, own, memory["RssFile"])


def ask(port: int, prompt: int, generate: int) -> dict[str, float]:
    """The engine's own timings of one request; the prompt is of numbers of tokens, so none is known to it."""
    body = {"prompt": [1000 + generate + i % 999 for i in range(prompt)], "n_predict": generate, "cache_prompt": False}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(
        "POST", "/completion", json.dumps({**body, "ignore_eos": True}), {"Content-Type": "application/json"}
    )
    return dict(json.loads(connection.getresponse().read())["timings"])


def main(model: Path, rounds: int) -> None:
    kit = find_kit("linux-x86_64")
    engine, environment = kit.engine, engine_environment(kit)
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        plain, packed = Path(folder) / "plain", Path(folder) / "packed"
        subprocess.run(["mkllm", "build", model, "-o", plain, "-q"], check=True)
        subprocess.run(["mkllm", "build", model, "-o", packed, "-q", "--prepack", KERNEL], check=True)
        own = ["--no-browser", "--no-tune"]
        contestants: dict[str, tuple[list[str | Path], list[str]]] = {
            "llama-server": ([engine, "serve", "-m", model, "--host", "127.0.0.1"], []),
            "artifact, weights repacked at the start": ([plain, *own], ["--", "--repack"]),
            "artifact, weights mapped": ([plain, *own], ["--", "--no-repack"]),
            "artifact, weights prepacked": ([packed, *own], []),
        }
        names = list(contestants)
        found: dict[str, list[Sample]] = {name: [] for name in names}
        for turn in range(rounds + 1):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                once = sample(*contestants[name], environment if name == "llama-server" else None)
                found[name] += [once] if turn else []
    _report(model, found, rounds)


def _report(model: Path, found: dict[str, list[Sample]], rounds: int) -> None:
    def row(name: str) -> list[str]:
        def middle(field: str) -> float:
            return median([getattr(sample, field) for sample in found[name]])

        speeds = [f"{middle('prompt'):.1f}", f"{middle('generation'):.2f}"]
        return [name, f"{middle('ready'):.2f} s", *speeds, f"{middle('own'):.0f} MiB", f"{middle('mapped'):.0f} MiB"]

    text = (
        f"Page cache warm, medians of {rounds} rounds in turn. Ready: from the start until /health says so. A prompt "
        f"of {PROMPT} tokens, then {GENERATED} generated, by the engine's own timings. Prepacked for {KERNEL}. "
        "What is mapped twice, by llama.cpp and for the ordered weights, is counted twice, and is in memory once."
    )
    report(f"prepack-{model.stem}", f"Prepacked weights of {model.stem}", text, COLUMNS, [row(name) for name in found])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
