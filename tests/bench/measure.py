"""What the benchmarks share: processes timed until they answer, memory as the kernel counts it, tables in Markdown."""

import contextlib
import http.client
import json
import platform
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"
POLL = 0.004  # seconds between two questions to a server that is starting
PATIENCE = 120.0  # seconds until a start counts as failed


@dataclass(frozen=True)
class Started:
    """Seconds from exec until the port answered at all, and until the model was ready; the running process."""

    port_up: float
    ready: float
    process: psutil.Process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def served(args: Sequence[str | Path], port: int, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Start a server, wait until GET /health says 200, and stop it with SIGTERM at the end."""
    begun, null = time.perf_counter(), subprocess.DEVNULL
    with subprocess.Popen([str(a) for a in args], env=env, stdout=null, stderr=null) as process:
        try:
            port_up = _until(process, port, begun, {200, 503})
            yield Started(port_up, _until(process, port, begun, {200}), psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _until(process: subprocess.Popen[bytes], port: int, begun: float, statuses: set[int]) -> float:
    while time.perf_counter() - begun < PATIENCE:
        if health_status(port) in statuses:
            return time.perf_counter() - begun
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        time.sleep(POLL)
    raise SystemExit(f"{process.args!r} was not ready within {PATIENCE} s")


def health_status(port: int) -> int | None:
    """Status of GET /health, or None while nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def chat(port: int, prompt: str, tokens: int) -> dict[str, float]:
    """One completion of exactly `tokens` tokens; llama.cpp's own timings."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    timings: dict[str, float] = answer["timings"]
    return timings


def rss(process: psutil.Process) -> int:
    """Resident bytes of one process, shared pages included (/proc/PID/smaps_rollup)."""
    return _rollup(process, "Rss")


def pss(process: psutil.Process) -> int:
    """Resident bytes of one process, each shared page divided by the number of its users."""
    return _rollup(process, "Pss")


def _rollup(process: psutil.Process, name: str) -> int:
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


def engine_of(process: psutil.Process) -> psutil.Process:
    """The engine among a running artifact's processes."""
    return next(child for child in process.children(recursive=True) if "mkllm-engine" in " ".join(child.cmdline()[:1]))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def machine() -> str:
    """One line about where the figures were taken."""
    with open("/proc/cpuinfo") as file:
        name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {psutil.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"


def report(name: str, title: str, text: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the table and keep it as results/<name>.md."""
    lines = [f"# {title}", "", text, "", f"Machine: {machine()}.", ""]
    lines += ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
