"""The artifact on other processors than this one, played by QEMU: the kernel that suits each, the same answer, and no
illegal instruction in anything that is executed: entry, Python, its native modules, OpenSSL, the engine.

QEMU's own code generator knows no AVX-512, so what needs that is ranked (tests/runtime/hardware) but not run here.
"""

import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mkllm.runtime.hardware import cpuid

from .emulator import SECONDS, Emulator, version

HERE = Path(__file__).parent
QEMU = shutil.which("qemu-x86_64") or ""
AVX2_SINCE = (7, 2)
QUESTION = "How do I build an executable from a GGUF?"
KERNELS = {
    "qemu64": "cpu-x64",  # SSE3, as in the first of all x86-64 processors
    "core2duo": "cpu-x64",
    "phenom": "cpu-x64",
    "Nehalem": "cpu-sse42",
    "SandyBridge": "cpu-sandybridge",
    "IvyBridge": "cpu-ivybridge",
    "Opteron_G5": "cpu-piledriver",
    "Haswell": "cpu-haswell",
    "Skylake-Server": "cpu-haswell",  # without AVX-512, which the emulator takes away
    "EPYC": "cpu-haswell",
    "max": "cpu-haswell",
}


pytestmark = [
    pytest.mark.skipif(not QEMU, reason="there is no qemu-x86_64 (Debian's package qemu-user)"),
    pytest.mark.skipif(bool(QEMU) and version(QEMU) < AVX2_SINCE, reason="QEMU plays AVX2 since 7.2"),
]


@pytest.fixture(scope="module")
def preloaded(compile_c: Callable[..., Path]) -> Path:
    return compile_c(HERE / "through_qemu.c", "through_qemu.so", "-shared", "-fPIC", "-ldl")


@pytest.fixture(scope="module")
def emulator(preloaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """One home for all tests: the files in it are written once."""
    return Emulator(QEMU, preloaded, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def answer(demo: Path) -> str:
    """What the artifact answers on this machine's own processor."""
    said = subprocess.run(
        [demo, "-p", QUESTION, "--temperature", "0"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert said.returncode == 0 and "mkllm build" in said.stdout, said.stderr
    return said.stdout.rstrip("\n")


def asked(emulator: Emulator, demo: Path, cpu: str, **more: str) -> dict[str, Any]:
    done = emulator.run(cpu, demo, "-p", QUESTION, "--temperature", "0", "--json", **more)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return dict(json.loads(done.stdout))


def every_feature(folder: Path) -> Mapping[str, str]:
    """The environment in which the machine is said to have all that any kernel needs."""
    facts = folder / "facts.json"
    facts.write_text(json.dumps({"cpu_flags": sorted(cpuid.FEATURES)}))
    return {"MKLLM_PROBE": str(facts)}


def test_the_emulator_refuses_what_a_processor_has_not(emulator: Emulator, compile_c: Callable[..., Path]) -> None:
    """Without this the other tests would prove nothing."""
    program = compile_c(HERE / "avx2.c", "avx2")
    assert emulator.run("IvyBridge", program).returncode == -signal.SIGILL
    assert emulator.run("Haswell", program).returncode == 0


@pytest.mark.parametrize("cpu", KERNELS)
def test_the_right_kernel_and_the_same_answer(emulator: Emulator, demo: Path, answer: str, cpu: str) -> None:
    said = asked(emulator, demo, cpu)
    assert (said["kernel"], said["text"]) == (KERNELS[cpu], answer)
    assert said["reason"].endswith("; best of 14")


def test_the_first_launch_of_all_is_emulated_too(preloaded: Path, demo: Path, answer: str, tmp_path: Path) -> None:
    """Here the entry extracts, with a guardian, since there is no cache."""
    emulator = Emulator(QEMU, preloaded, tmp_path)
    assert asked(emulator, demo, "qemu64", HOME="/dev/null/home")["text"] == answer
    assert list(tmp_path.iterdir()) == []


def test_facts_that_lie_cost_restarts_but_not_the_answer(
    emulator: Emulator, demo: Path, answer: str, tmp_path: Path
) -> None:
    """Each module asks the processor itself before anything of it is used: the next one down is taken."""
    said = asked(emulator, demo, "qemu64", **every_feature(tmp_path))
    assert (said["kernel"], said["reason"], said["text"]) == ("cpu-x64", "plain x86-64; number 14 here", answer)


def test_info_and_verify_on_the_oldest_processor(emulator: Emulator, demo: Path) -> None:
    facts = json.loads(emulator.run("qemu64", demo, "info", "--json").stdout)
    assert [kernel["name"] for kernel in facts["kernels"]] == ["cpu-x64"]
    assert {"name": "cpu-sse42", "reason": "skipped, no sse4_2"} in facts["rejected"]
    assert emulator.run("qemu64", demo, "verify").returncode == 0


@pytest.mark.parametrize("cpu", ["qemu64", "max"])
def test_the_server(emulator: Emulator, demo: Path, serve: Any, answer: str, cpu: str) -> None:
    """It has native modules that a single answer does without."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with serve(demo, env=emulator.environment(cpu), through=emulator.words) as server:
        request = urllib.request.Request(
            f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answered:
            assert json.load(answered)["choices"][0]["message"]["content"] == answer
        with urllib.request.urlopen(f"{server.url}/health", timeout=SECONDS) as answered:
            health = json.load(answered)
    assert health["kernel"] == KERNELS[cpu] and health["engine"] == {"restarts": 0, "last_failure": None}
