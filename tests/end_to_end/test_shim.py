"""The engine with the shim, without the rest of an artifact: weights inside a larger file, status, lifeline, errors."""

import contextlib
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mkllm.builder.kit.packed import loadable
from mkllm.builder.kit.store import find_kit

OFFSET = 3 * 65536
SECONDS = 60.0


def random_gguf() -> Any:
    path = Path(__file__).parents[1] / "bench" / "random_gguf.py"
    spec = importlib.util.spec_from_file_location("random_gguf", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def native() -> Path:
    return find_kit("linux-x86_64").path / "members" / "native"


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file that holds a GGUF at OFFSET, with other bytes on both sides; the GGUF's length."""
    folder = tmp_path_factory.mktemp("holder")
    module = random_gguf()
    module.write(folder / "tiny.gguf", module.SHAPES["tiny"], "Q8_0")
    weights = (folder / "tiny.gguf").read_bytes()
    (folder / "holder").write_bytes(b"before" + bytes(OFFSET - 6) + weights + b"after" * 1000)
    return folder / "holder", len(weights)


@dataclass
class Run:
    """A started engine, its abstract socket, what it reports and what it prints."""

    process: subprocess.Popen[bytes]
    address: str
    status: int
    lifeline: int
    given: tuple[int, ...]
    output: Path

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        with contextlib.closing(connection):
            connection.sock.connect(self.address)
            connection.request("GET", path)
            return connection.getresponse().status

    def complete(self, prompt: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.closing(connection):
            connection.sock.connect(self.address)
            body = {"prompt": prompt, "n_predict": 8, "temperature": 0, "return_tokens": True, "ignore_eos": True}
            connection.request("POST", "/completion", json.dumps(body))
            return dict(json.loads(connection.getresponse().read()))

    def wait_ready(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.output.read_text()
            with contextlib.suppress(OSError):
                if self.get("/health") == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(self.output.read_text())

    def events(self) -> list[dict[str, Any]]:
        """Everything reported so far."""
        os.set_blocking(self.status, False)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.status, 65536):
                data += more
        return [json.loads(line) for line in data.splitlines()]


class Starter:
    """Starts engines as the runtime does (spec/launch.md, 3)."""

    def __init__(self, native: Path, holder: tuple[Path, int], folder: Path) -> None:
        self.native, self.holder, self.folder, self.count = native, holder, folder, 0
        self.module = loadable(native / "libggml-cpu-x64.so.gz")

    @contextlib.contextmanager
    def __call__(self, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Run]:
        self.count += 1
        path, length = self.holder
        weights = os.open(path, os.O_RDONLY)
        status, status_far = os.pipe()
        lifeline_far, lifeline = os.pipe()
        name = f"mkllm-test-{os.getpid()}-{time.monotonic_ns()}.sock"
        words = [str(self.native / "mkllm-engine"), "serve", "-m", "embedded:model.gguf", "--host", f"@{name}"]
        environment = {
            "PATH": os.environ["PATH"],
            "MKLLM_EMBEDDED": f"model.gguf={weights}@{OFFSET}:{length}",
            "MKLLM_BACKENDS": str(self.module),
            "MKLLM_STATUS_FD": str(status_far),
            "MKLLM_LIFELINE_FD": str(lifeline_far),
            **(env or {}),
        }
        output = self.folder / f"output-{self.count}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*words, "-c", "256", "-t", "1", "--no-warmup", *args],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=(weights, status_far, lifeline_far),
            )
        for descriptor in (weights, status_far, lifeline_far):
            os.close(descriptor)
        run = Run(process, "\0" + name, status, lifeline, (weights, status_far, lifeline_far), output)
        try:
            yield run
        finally:
            with contextlib.suppress(OSError):
                os.close(run.lifeline)
            os.close(status)
            process.kill()
            process.wait()


@pytest.fixture
def start(native: Path, holder: tuple[Path, int], tmp_path: Path) -> Starter:
    return Starter(native, holder, tmp_path)


@pytest.fixture(scope="module")
def expected(native: Path, holder: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The tokens that the plain file gives, loaded by its path as upstream does."""
    plain = holder[0].with_name("tiny.gguf")
    start = Starter(native, holder, tmp_path_factory.mktemp("plain"))
    with start("-m", str(plain), env={"MKLLM_EMBEDDED": ""}) as run:
        run.wait_ready()
        return list(run.complete("hello")["tokens"])


@pytest.mark.parametrize("args", [(), ("--load-mode", "none"), ("--load-mode", "mlock"), ("--fit", "on")], ids=str)
def test_embedded_weights_answer_as_the_file_does(start: Starter, expected: list[int], args: tuple[str, ...]) -> None:
    with start(*args) as run:
        run.wait_ready()
        assert run.complete("hello")["tokens"] == expected
        events = run.events()
        assert events[0] == {"event": "backend", "file": str(start.module), "loaded": True}
        values = [event["value"] for event in events if event["event"] == "progress"]
        assert values == sorted(values) and 1 <= len(values) <= 101 and values[-1] == 1.0
        assert events[-1] == {"event": "loaded", "path": "embedded:model.gguf"}


def test_weights_are_mapped_where_they_lie(start: Starter) -> None:
    with start("--load-mode", "mmap", "--no-repack") as run:
        run.wait_ready()
        maps = psutil.Process(run.process.pid).memory_maps(grouped=False)
        assert any(m.path == str(start.holder[0]) for m in maps)


def test_nothing_leaks_further(start: Starter) -> None:
    with start() as run:
        run.wait_ready()
        for descriptor in run.given:
            facts = Path(f"/proc/{run.process.pid}/fdinfo/{descriptor}").read_text()
            flags = next(line.split()[1] for line in facts.splitlines() if line.startswith("flags:"))
            assert int(flags, 8) & os.O_CLOEXEC


def test_ends_with_its_parent(start: Starter) -> None:
    with start() as run:
        run.wait_ready()
        os.close(run.lifeline)
        assert run.process.wait(5) == 0


def test_ends_with_its_parent_while_it_starts(start: Starter) -> None:
    with start() as run:
        os.close(run.lifeline)
        assert run.process.wait(5) == 0


def test_survives_a_front_that_stops_reading(start: Starter) -> None:
    with start() as run:
        far, near = os.pipe()
        os.close(near)
        os.dup2(far, run.status)
        os.close(far)
        run.wait_ready()


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"MKLLM_EMBEDDED": "model.gguf"}, 'MKLLM_EMBEDDED holds "model.gguf", not name=fd@offset:length'),
        ({"MKLLM_EMBEDDED": "model.gguf=0@5:x"}, 'MKLLM_EMBEDDED holds "model.gguf=0@5:x", not'),
        ({"MKLLM_EMBEDDED": "model.gguf=999@0:1"}, "MKLLM_EMBEDDED names the descriptor 999, which is not open"),
        ({"MKLLM_STATUS_FD": "x"}, 'MKLLM_STATUS_FD is "x", not a number of a descriptor'),
        ({"MKLLM_BACKENDS": "/nowhere.so"}, "none of the modules of MKLLM_BACKENDS could be loaded"),
        ({"MKLLM_BACKENDS": ""}, "none of the modules of MKLLM_BACKENDS could be loaded"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_environment_is_one_line(start: Starter, env: dict[str, str], sentence: str) -> None:
    with start(env=env) as run:
        assert run.process.wait(SECONDS) == 2
        said = run.output.read_text()  # a thread of the engine's log may write between the prefix and the sentence
        assert said.count("mkllm-engine: ") == 1 and said.count(sentence) == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("-m", "embedded:other.gguf"), 'there is no embedded file "embedded:other.gguf"'),
        (("--lora", "embedded:lora.gguf"), 'there is no embedded file "embedded:lora.gguf"'),
    ],
    ids=str,
)
def test_missing_embedded_file(start: Starter, args: tuple[str, ...], sentence: str) -> None:
    with start(*args) as run:
        assert run.process.wait(SECONDS) != 0
        assert f"mkllm-engine: {sentence}" in run.output.read_text()


def test_truncated_holder(native: Path, holder: tuple[Path, int], tmp_path: Path) -> None:
    path, length = holder
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[: OFFSET + length - 1])
    with Starter(native, (cut, length), tmp_path)() as run:
        assert run.process.wait(SECONDS) != 0
        assert "ends beyond the file that holds it" in run.output.read_text()
