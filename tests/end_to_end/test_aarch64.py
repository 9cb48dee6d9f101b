"""The kit for linux-aarch64: what is built with it here runs on ARM processors, which QEMU plays, with the right kernel
and the same answers; the C library that it finds there is glibc 2.17.

The processors differ in what they can do: a Raspberry Pi 3 (cortex-a53), a Pi 5 (cortex-a76), a server of 2019
(neoverse-n1), and all that QEMU knows (max).
"""

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder import cache
from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.builder.kit.target import TARGETS

from .emulator import SECONDS, Emulator
from .sysroot import old_glibc

HERE = Path(__file__).parent
QEMU = shutil.which("qemu-aarch64") or ""
ARM = TARGETS["linux-aarch64"]
QUESTION = "How do I build an executable from a GGUF?"
ASK = ("-p", QUESTION, "--temperature", "0")
# The best kernel for each, of all and of the few that `MKLLM_TEST_FEW_VARIANTS=1 nox -s aarch64` compiles.
KERNELS = {
    "cortex-a53": "cpu-armv8.0_1",
    "cortex-a76": "cpu-armv8.2_2",
    "neoverse-n1": "cpu-armv8.2_2",
    "max": "cpu-armv9.2_2",
}
FEW = {"cpu-armv8.0_1", "cpu-armv8.2_2"}
NEWER = Path("/usr/aarch64-linux-gnu")
MOST_BYTES, MOST_BYTES_OF_WHEEL = 40_000_000, 25_000_000

pytestmark = pytest.mark.skipif(not QEMU, reason="there is no qemu-aarch64 (Debian's package qemu-user)")


@pytest.fixture(scope="module")
def kit() -> Kit:
    try:
        found = find_kit(ARM.name)
    except NoKit:
        pytest.skip("there is no kit for linux-aarch64: `nox -s aarch64` builds it")
    return found


@pytest.fixture(scope="module")
def kernels(kit: Kit) -> dict[str, str]:
    """The right kernel for each processor, of those in this kit."""
    names = {name for name, _ in kit.backends}
    assert len(names) == 8 or names == FEW, "the kit in use has neither all CPU variants nor those few"
    return {cpu: kernel if kernel in names else "cpu-armv8.2_2" for cpu, kernel in KERNELS.items()}


@pytest.fixture(scope="module")
def artifact(kit: Kit, mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, built here for there."""
    path = tmp_path_factory.mktemp("artifact") / "demo"
    words = [mkllm, "build", "demo", "-o", path, "--target", ARM.name]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def root() -> Path:
    """A folder with that C library alone."""
    base, name = cache.folder("roots"), f"glibc-2.17-{ARM.machine}"
    with cache.locked(base / f"{name}.lock"):
        if not (base / name).exists():
            with cache.draft(base, name) as draft:
                old_glibc(draft / "root", ARM)
                os.rename(draft / "root", base / name)
    return base / name


@pytest.fixture(scope="module")
def emulator(compile_c: Callable[..., Path], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    words = ("-shared", "-fPIC", "-ldl")
    preloaded = compile_c(HERE / "through_qemu.c", "through_qemu.so", *words, system=ARM.name)
    return Emulator(QEMU, preloaded, tmp_path_factory.mktemp("home"), root)


@pytest.fixture(scope="module")
def answer(demo: Path) -> str:
    """What the same model answers on this machine."""
    said = subprocess.run([demo, *ASK], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert said.returncode == 0 and "mkllm build" in said.stdout, said.stderr
    return said.stdout.rstrip("\n")


def test_size(kit: Kit, mkllm: Path, tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in kit.path.rglob("*") if path.is_file()) <= MOST_BYTES
    variants = ",".join(name.removeprefix("cpu-") for name, _ in kit.backends)
    words = [mkllm, "kit", "build", "--target", ARM.name, "--variants", variants, "--wheel", tmp_path]
    subprocess.run(words, check=True, capture_output=True)
    assert find_kit(ARM.name).id == kit.id
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.startswith("mkllm_kit_linux_aarch64-") and wheel.stat().st_size <= MOST_BYTES_OF_WHEEL


@pytest.mark.parametrize("cpu", KERNELS)
def test_the_right_kernel_and_the_same_answer(
    emulator: Emulator, artifact: Path, kit: Kit, kernels: dict[str, str], answer: str, cpu: str
) -> None:
    done = emulator.run(cpu, artifact, *ASK, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["kernel"], said["text"]) == (kernels[cpu], answer)
    assert said["reason"].endswith(f"; best of {len(kit.backends)}")


@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_the_server(
    emulator: Emulator, artifact: Path, kernels: dict[str, str], serve: Any, answer: str, cpu: str
) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with serve(artifact, env=emulator.environment(cpu), through=emulator.words, seconds=SECONDS) as server:
        request = urllib.request.Request(
            f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answered:
            assert json.load(answered)["choices"][0]["message"]["content"] == answer
        with urllib.request.urlopen(f"{server.url}/health", timeout=SECONDS) as answered:
            health = json.load(answered)
        with urllib.request.urlopen(f"{server.url}/", timeout=SECONDS) as answered:
            assert b"<html" in answered.read()
    assert health["kernel"] == kernels[cpu] and health["engine"] == {"restarts": 0, "last_failure": None}
    assert "Traceback" not in server.output.read_text()


def test_info_tells_the_processor(emulator: Emulator, artifact: Path, kit: Kit) -> None:
    done = emulator.run("cortex-a76", artifact, "info", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    names = {name for name, _ in kit.backends}
    best = [name for name in ("cpu-armv8.2_2", "cpu-armv8.2_1", "cpu-armv8.0_1") if name in names]
    assert [kernel["name"] for kernel in facts["kernels"]] == best
    rejected = {one["name"]: one["reason"] for one in facts["rejected"]}
    assert rejected.keys() == names - {*best} and rejected.get("cpu-armv8.2_3", "skipped, no sve") == "skipped, no sve"


def test_it_verifies_and_extracts_itself(emulator: Emulator, artifact: Path, tmp_path: Path) -> None:
    """SHA-256 is by the processor's own instructions here, on ARM as well."""
    assert emulator.run("cortex-a53", artifact, "verify").returncode == 0
    assert emulator.run("cortex-a53", artifact, "extract", "-o", tmp_path / "model.gguf").returncode == 0
    source = Path(str(resources.files("mkllm.builder.demo"))) / "demo.gguf"
    both = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, tmp_path / "model.gguf")}
    assert len(both) == 1


def test_a_changed_byte_is_found_there(emulator: Emulator, artifact: Path, tmp_path: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[data.index(b"GGUF") + 1_000_000] ^= 1
    (tmp_path / "copy").write_bytes(data)
    (tmp_path / "copy").chmod(0o755)
    done = emulator.run("cortex-a53", tmp_path / "copy", "verify")
    assert done.returncode == 31 and "model.gguf" in done.stderr


def test_the_builders_commands_read_it(mkllm: Path, artifact: Path) -> None:
    done = subprocess.run([mkllm, "inspect", artifact, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["manifest"]["target"] == ARM.name
    subprocess.run([mkllm, "verify", artifact], check=True, capture_output=True)


def test_what_memory_it_takes_is_measured_here_all_the_same(mkllm: Path, artifact: Path, demo: Path) -> None:
    """By this machine's own kit, of the same llama.cpp."""

    def memory(path: Path) -> Any:
        done = subprocess.run([mkllm, "inspect", path, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["manifest"]["model"]["memory"]

    assert memory(artifact) == memory(demo)


def test_a_system_without_its_c_library_is_told(emulator: Emulator, artifact: Path, tmp_path: Path) -> None:
    environment = {**emulator.environment("max"), "QEMU_LD_PREFIX": str(tmp_path)}
    done = subprocess.run([QEMU, artifact], env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 72 and done.stdout == ""
    assert done.stderr.startswith("demo: this system has no C library for it: there is no /lib/ld-linux-aarch64.so.1, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not NEWER.exists(), reason="there is no newer glibc for ARM (Debian's package libc6-arm64-cross)")
def test_the_loader_may_be_asked_to_run_it(emulator: Emulator, artifact: Path, answer: str) -> None:
    """As some launchers do; then it has done its work when the file's first code runs. That of glibc 2.17 cannot: on
    ARM it writes to its own code then, whatever program it is to run."""
    newer = replace(emulator, root=NEWER)
    done = newer.run("cortex-a76", NEWER / "lib" / "ld-linux-aarch64.so.1", artifact, *ASK)
    assert (done.returncode, done.stdout.rstrip("\n"), done.stderr) == (0, answer, "")
