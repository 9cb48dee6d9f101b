"""The CUDA backend, compiled for Turing alone: what its module needs and gives; drivers that are missing or too old.

`nox -s cuda` compiles it, which takes hours on two cores; else it is tested where the cache holds it, and skipped where
not. Where a GPU of NVIDIA's is at hand, it computes on that.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder import cache
from mkllm.builder.kit import cuda, toolchain
from mkllm.builder.kit.elf import parse_version, read_elf
from mkllm.builder.kit.pins import sdist
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.store import is_built
from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine import nvidia
from mkllm.runtime.engine.look import look
from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.hardware.devices import Look

TURING = "75-real"
QUESTION = "What is 7 times 8?"
SECONDS = 240
# As much of a driver as CUDA's runtime asks for its version and for GPUs, of which it has none; the rest is only there.
NAMES = """cuDeviceGet cuDeviceGetAttribute cuGetErrorString cuMemAddressFree cuMemAddressReserve cuMemCreate
cuMemGetAllocationGranularity cuMemMap cuMemRelease cuMemSetAccess cuMemUnmap""".split()
DRIVER = """\
#define _GNU_SOURCE
#include <dlfcn.h>
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuInit(unsigned flags) { (void) flags; return 100; }
int cuGetProcAddress(const char *name, void **found) { return (*found = dlsym(RTLD_DEFAULT, name)) ? 0 : 500; }
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags, int *status) {
    (void) version, (void) flags;
    if (status) *status = 0;
    return cuGetProcAddress(name, found);
}
""" + "".join(f"int {name}(void) {{ return 3; }}\n" for name in NAMES)

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cuda_demo(mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo artifact with the CUDA backend, of a kit beside the one in use, out of the same parts."""
    part = cuda.part(TARGETS["linux-x86_64"], fetch(sdist("llama-cpp-python")), TURING)
    if not (is_built(part) or "MKLLM_TEST_CUDA" in os.environ):
        pytest.skip("the CUDA backend is not in the cache: `nox -s cuda` compiles it")
    own = tmp_path_factory.mktemp("cuda")
    for shared in ("downloads", "parts", "work", "zig"):
        (own / "cache").mkdir(exist_ok=True)
        (own / "cache" / shared).symlink_to(cache.folder(shared))
    environment = {**os.environ, "MKLLM_CACHE": str(own / "cache")}
    build = ["kit", "build", "--backends", "cuda", "--cuda-architectures", TURING]
    for words in (build, ["build", "demo", "-o", own / "demo"]):
        done = subprocess.run(
            [mkllm, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
    return own / "demo"


@pytest.fixture(scope="session")
def members(cuda_demo: Path) -> Path:
    """The folder of the kit's native members."""
    (kit,) = (cuda_demo.parent / "cache" / "kits").glob("linux-x86_64-*/members/native")
    return kit


@pytest.fixture(scope="session")
def ask(cuda_demo: Path) -> Ask:
    """`ask(*words)`: the artifact with these words; greedy, as JSON."""

    def asking(*words: str) -> subprocess.CompletedProcess[str]:
        command = [cuda_demo, "-p", QUESTION, "--json", "--temp", "0", *words]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS)

    return asking


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_of_cuda_is_needed_but_the_driver(members: Path) -> None:
    module = members / cuda.MODULE
    elf = read_elf(module)
    assert cuda.LINKED <= set(elf.needed) <= cuda.LINKED | TARGETS["linux-x86_64"].system_libraries
    assert elf.glibc <= parse_version("2.17") and elf.runpath == "$ORIGIN"
    assert b"\0ggml_backend_init\0" in module.read_bytes()


def test_no_path_of_this_machine_is_in_the_module(members: Path) -> None:
    assert str(cache.root()).encode() not in (members / cuda.MODULE).read_bytes()


def test_the_licences_of_what_is_linked_in(members: Path) -> None:
    texts = {path.stem: path.read_text("utf-8") for path in (members.parent / "licenses").glob("*.txt")}
    assert "NVIDIA" in texts["nvidia-cuda"] and "Duane Merrill" in texts["cub"]
    assert "GCC RUNTIME LIBRARY EXCEPTION" in texts["gcc-runtime"]


@pytest.mark.skipif(nvidia.driver_version() is not None, reason="there is a driver here")
def test_no_driver(ask: Ask, cuda_demo: Path) -> None:
    done = ask()
    assert answer(done)["kernel"].startswith("cpu-")
    assert "note: cuda: skipped, libcuda.so.1 is not installed\n" in done.stderr
    doctor = subprocess.run([cuda_demo, "doctor", "--no-tune"], capture_output=True, text=True, timeout=SECONDS)
    assert doctor.returncode == 0 and "libcuda.so.1 is not installed" in doctor.stdout, doctor


@pytest.mark.skipif(nvidia.driver_version() is None, reason="no driver of NVIDIA's is here")
def test_the_same_text_as_on_the_cpu(ask: Ask) -> None:
    on_cpu, on_gpu = answer(ask("--kernel", "cpu-x64")), answer(ask("--kernel", "cuda"))
    assert on_gpu["kernel"] == "cuda" and on_gpu["reason"].endswith("; all 5 layers")
    assert on_gpu["text"] == on_cpu["text"]


@pytest.mark.parametrize(
    "version,found",
    [
        (11040, Look("cuda", (), "driver 470.256.02, needs 580", nvidia.REMEDY)),
        (13000, Look("cuda")),
    ],
    ids=["too old", "no GPU"],
)
def test_a_driver_of_another_version(
    members: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, found: Look
) -> None:
    """The real engine and module, with a driver that only tells its version."""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Sun May 12\n")
    monkeypatch.setattr(nvidia, "VERSION_FILE", tmp_path / "version")
    for path in members.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "driver.c").write_text(DRIVER)
    compiler = toolchain.write_wrappers(toolchain.find_zig(), TARGETS["linux-x86_64"], tmp_path / "toolchain")["cc"]
    library = ["-shared", "-fno-sanitize=all", f"-DVERSION={version}", "-o", tmp_path / cuda.DRIVER]
    words = [compiler, *library, tmp_path / "driver.c", "-ldl"]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **toolchain.environment()})
    placed = Placed(tmp_path / "mkllm-engine", (tmp_path / cuda.MODULE,), tmp_path)
    assert look([Backend("cuda", "")], lambda backend: placed, None) == (found,)
