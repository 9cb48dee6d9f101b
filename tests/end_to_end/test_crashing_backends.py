"""Kernels that die: while they are loaded, while they warm up, in the tenth request. The program goes on with the next.

The kernels that this machine would choose first are replaced in a kit by real modules that die when they are told to
(crashing_backend.c); everything else is what is shipped.
"""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.kit.kit import MEMBERS, Kit
from mkllm.builder.kit.packed import pack
from mkllm.builder.kit.pins import sdist
from mkllm.builder.kit.sdist import fetch, unpack
from mkllm.builder.kit.store import compose, find_kit

HERE = Path(__file__).parent
TARGET = "linux-x86_64"
REPLACED = 2
RESTART_SECONDS = 5.0
QUESTION = {"messages": [{"role": "user", "content": "What is mkllm?"}], "temperature": 0}


@dataclass(frozen=True)
class Crashing:
    """An artifact whose `kernels`, best first, are: two that can be told to die, and the one to go on with. In its
    `home` nothing is remembered of what died before."""

    file: Path
    kernels: tuple[str, ...]
    home: Path

    @property
    def untold(self) -> dict[str, str]:
        """An environment in which nothing dies."""
        return {"HOME": str(self.home), "XDG_CACHE_HOME": ""}

    def environment(self, at: str | Path, how: str = "SIGILL", kernels: int = 1) -> dict[str, str]:
        """In which the first `kernels` kernels die at that moment."""
        dying = " ".join(f"libggml-{name}.so" for name in self.kernels[:kernels])
        told = {"CRASH_AT": str(at), "CRASH_BY": how, "CRASH_IN": dying}
        return {**self.untold, **told}

    def run(self, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.file, *words],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def kernels(demo: Path) -> tuple[str, ...]:
    """What this machine chooses, best first."""
    told = subprocess.run([demo, "info", "--json"], capture_output=True, check=True)
    names = tuple(kernel["name"] for kernel in json.loads(told.stdout)["kernels"])
    if len(names) <= REPLACED:
        pytest.skip(f"this machine runs no more than {len(names)} kernels of this kit: build it with all variants")
    return names[: REPLACED + 1]


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ggml's source, as the kit's engine was compiled of it."""
    folder = tmp_path_factory.mktemp("source") / "llama-cpp-python"
    unpack(fetch(sdist("llama-cpp-python")), folder)
    return folder / "vendor" / "llama.cpp" / "ggml"


@pytest.fixture(scope="module")
def artifact(
    mkllm: Path,
    kernels: tuple[str, ...],
    headers: Path,
    compile_c: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("crashing")
    flags = ("-shared", "-fPIC", f"-I{headers / 'include'}", f"-I{headers / 'src'}", "-ldl")
    module = compile_c(HERE / "crashing_backend.c", "module.so", *flags)
    with pytest.MonkeyPatch.context() as patch:
        kit = find_kit(TARGET)
        patch.setenv("MKLLM_CACHE", str(folder / "cache"))
        replaced(kit, kernels[:REPLACED], module, folder / "parts")
        words = [mkllm, "build", "demo", "-o", folder / "demo"]
        built = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
    yield folder / "demo"
    shutil.rmtree(folder)


@pytest.fixture
def crashing(artifact: Path, kernels: tuple[str, ...], tmp_path: Path) -> Iterator[Crashing]:
    home = tmp_path / "home"
    home.mkdir()
    yield Crashing(artifact, kernels, home)
    shutil.rmtree(home)


def replaced(kit: Kit, kernels: tuple[str, ...], module: Path, folder: Path) -> Kit:
    """A kit of its own in the cache: `kit` with `module` in place of these kernels, the real ones as libraries."""
    shutil.copytree(kit.path, folder, ignore=lambda *_: ["kit.json", "members"])
    shutil.copytree(kit.path / MEMBERS, folder, dirs_exist_ok=True)
    facts = json.loads((kit.path / "kit.json").read_bytes())
    for name, member in kit.backends:
        if name in kernels:
            path = folder / member
            real = path.rename(path.with_name(f"real-{path.name}"))
            facts["engine"]["libraries"].append(f"native/{real.name}")
            path.write_bytes(pack(module.read_bytes()))
    return compose(TARGET, (), [folder], {name: facts[name] for name in facts.keys() - {"id", "target", "files"}})


def ask(server: Any, **more: Any) -> tuple[int, Any]:
    """Status and JSON of one answer of the chat API."""
    body = json.dumps({**QUESTION, **more}).encode()
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answered:
            return answered.status, answered.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def answers(server: Any) -> str:
    status, body = ask(server)
    assert status == 200, body
    return str(json.loads(body)["choices"][0]["message"]["content"])


def health(server: Any) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answered:
        return dict(json.load(answered))


def died(kernel: str, how: str, phase: str) -> str:
    return f"the engine with {kernel} was ended by {how} while it {phase}"


def test_untold_they_are_the_real_ones(crashing: Crashing, serve: Any) -> None:
    with serve(crashing.file, env=crashing.untold) as server:
        assert "executable" in answers(server)
        assert health(server)["kernel"] == crashing.kernels[0] and health(server)["engine"]["restarts"] == 0


@pytest.mark.parametrize("how", ["SIGILL", "SIGSEGV", "SIGABRT"])
@pytest.mark.parametrize("moment", ["score", "init", "device", "graph"])
def test_one_that_dies_before_it_serves(crashing: Crashing, serve: Any, moment: str, how: str) -> None:
    begin = time.monotonic()
    with serve(crashing.file, env=crashing.environment(moment, how)) as server:
        assert time.monotonic() - begin < RESTART_SECONDS
        state = health(server)
        assert state["kernel"] == crashing.kernels[1] and state["engine"]["restarts"] == 1
        assert state["engine"]["last_failure"].startswith(died(crashing.kernels[0], how, "started"))
        assert "executable" in answers(server)
        told = [line for line in server.output.read_text().splitlines() if "started again with" in line]
    assert len(told) == 1 and crashing.kernels[1] in told[0]


def test_an_assertion_that_fails(crashing: Crashing, serve: Any, tmp_path: Path) -> None:
    """ggml would have itself looked at by a debugger first, if there is one, and keep the request waiting for it."""
    debugger, now, called = tmp_path / "gdb", tmp_path / "now", tmp_path / "called"
    debugger.write_text(f"#!/bin/sh\ntouch '{called}'\nsleep 20\n")
    debugger.chmod(0o755)
    env = {**crashing.environment(now, "assert"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with serve(crashing.file, env=env) as server:
        now.touch()
        begin = time.monotonic()
        status, body = ask(server)
        assert status == 503 and died(crashing.kernels[0], "SIGABRT", "served") in body["error"]["message"]
        assert "GGML_ASSERT(not told to) failed" in body["error"]["message"]
        assert "executable" in answers(server)
        assert time.monotonic() - begin < RESTART_SECONDS and not called.exists()


def test_two_that_die_while_they_warm_up(crashing: Crashing, serve: Any) -> None:
    begin = time.monotonic()
    with serve(crashing.file, env=crashing.environment("graph", kernels=2)) as server:
        assert time.monotonic() - begin < 2 * RESTART_SECONDS
        assert health(server)["kernel"] == crashing.kernels[2] and health(server)["engine"]["restarts"] == 2
        assert "executable" in answers(server)


@pytest.mark.parametrize("how", ["SIGILL", "SIGSEGV", "SIGABRT"])
def test_one_that_dies_in_the_tenth_request(crashing: Crashing, serve: Any, tmp_path: Path, how: str) -> None:
    now = tmp_path / "now"
    with serve(crashing.file, env=crashing.environment(now, how)) as server:
        good = {answers(server) for _ in range(9)}
        now.touch()
        begin = time.monotonic()
        status, body = ask(server)
        assert status == 503 and body["error"]["code"] == 503
        assert body["error"]["message"].startswith(died(crashing.kernels[0], how, "served"))
        assert body["error"]["message"].endswith("; it has been started again, so try again")
        assert {answers(server)} == good and len(good) == 1
        assert time.monotonic() - begin < RESTART_SECONDS
        state = health(server)
    assert state["kernel"] == crashing.kernels[1] and state["engine"]["restarts"] == 1
    assert state["engine"]["last_failure"].startswith(died(crashing.kernels[0], how, "served"))


def test_a_stream_ends_with_the_reason(crashing: Crashing, serve: Any, tmp_path: Path) -> None:
    now = tmp_path / "now"
    with serve(crashing.file, env=crashing.environment(now)) as server:
        body = json.dumps({**QUESTION, "stream": True}).encode()
        request = urllib.request.Request(f"{server.url}/v1/chat/completions", body)
        with urllib.request.urlopen(request, timeout=60) as answered:
            first = answered.readline()
            now.touch()
            *_, last = [line for line in answered if line.strip()]
        assert first.startswith(b"data: ") and died(crashing.kernels[0], "SIGILL", "served") in last.decode()
        assert "executable" in answers(server)


@pytest.mark.parametrize("dying", [1, 2])
def test_a_single_answer_is_given_all_the_same(crashing: Crashing, dying: int) -> None:
    """It does without warming up, so the kernel may die in the answer itself; nothing of that was printed yet."""
    environment = crashing.environment("prompt", kernels=dying)
    done = crashing.run("-p", "What is mkllm?", "--temperature", "0", env=environment)
    assert done.returncode == 0 and "executable" in done.stdout, done.stderr
    assert done.stderr.count("\n") == dying and died(crashing.kernels[0], "SIGILL", "served") in done.stderr


def kernel_of(crashing: Crashing, **env: str) -> str:
    """With which kernel a launch answers."""
    done = crashing.run("-p", "hello", "--json", env={**crashing.untold, **env})
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["kernel"])


@pytest.mark.parametrize("moment", ["init", "prompt"])
def test_an_instruction_that_is_not_there_is_remembered(crashing: Crashing, moment: str) -> None:
    assert kernel_of(crashing, **crashing.environment(moment)) == crashing.kernels[1]
    assert kernel_of(crashing) == crashing.kernels[1]


def test_a_request_that_kills_costs_the_kernel_this_launch_only(crashing: Crashing) -> None:
    """It may be the request that is to blame: not every launch to come shall be slower for it."""
    assert kernel_of(crashing, **crashing.environment("prompt", "SIGSEGV")) == crashing.kernels[1]
    assert kernel_of(crashing) == crashing.kernels[0]


def test_the_only_kernel_that_was_asked_for(crashing: Crashing) -> None:
    words = ("-p", "What is mkllm?", "--kernel", crashing.kernels[0])
    for moment, phase, status in (("init", "started", 40), ("prompt", "served", 41)):
        done = crashing.run(*words, env=crashing.environment(moment))
        assert done.returncode == status and done.stdout == ""
        assert done.stderr.count("\n") == 1 and died(crashing.kernels[0], "SIGILL", phase) in done.stderr
        assert "no other kernel is left" in done.stderr
