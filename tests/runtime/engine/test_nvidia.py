"""CUDA through drivers of every kind: little programs in the engine's place, with the words of ggml's backend."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine import nvidia
from mkllm.runtime.engine.look import look
from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.hardware.devices import Device, Look

CUDA = Backend("cuda", "native/libggml-cuda.so")
MIB = 1 << 20
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sun May 12 23:42:17 UTC 2024\nGCC version: gcc 12.2.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root)  Fri Jul 18\n"
TWO = """\
ggml_cuda_init: found 2 CUDA devices (Total VRAM: 36564 MiB):
  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes, VRAM: 24564 MiB
  Device 1: NVIDIA GeForce GTX 1080 Ti, compute capability 6.1, VMM: yes, VRAM: 12000 MiB
load_backend: loaded CUDA backend from libggml-cuda.so
Available devices:
  CUDA0: NVIDIA GeForce RTX 4090 (24564 MiB, 24009 MiB free)
  CUDA1: NVIDIA GeForce GTX 1080 Ti (12000 MiB, 11800 MiB free)
"""
REFUSED = "ggml_cuda_init: failed to initialize CUDA: {}\nAvailable devices:\n  (none)\n"
INSUFFICIENT = "CUDA driver version is insufficient for CUDA runtime version"
See = Callable[[str], Look]


@pytest.fixture
def see(tmp_path: Path) -> See:
    """`see(words)`: the look through an engine that says this, and that notes each start."""

    def seeing(words: str) -> Look:
        program = tmp_path / "engine"
        program.write_text(f"#!/bin/sh\necho started >> {tmp_path / 'starts'}\ncat <<'END'\n{words}\nEND\n")
        program.chmod(0o755)
        (found,) = look([CUDA], lambda backend: Placed(program, (tmp_path / "libggml-cuda.so",)), None)
        assert (tmp_path / "starts").read_text() == "started\n"
        return found

    return seeing


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which the driver tells its version, which is 470.256.02."""
    path = tmp_path / "version"
    path.write_text(CLOSED.format("470.256.02"))
    monkeypatch.setattr(nvidia, "VERSION_FILE", path)
    return path


@pytest.mark.parametrize("text", [CLOSED, OPEN])
def test_the_version_of_the_driver(driver: Path, text: str) -> None:
    driver.write_text(text.format("580.65.06"))
    assert nvidia.driver_version() == "580.65.06"


@pytest.mark.parametrize("text", ["", "NVRM version: unknown\n", None])
def test_no_version(driver: Path, text: str | None) -> None:
    driver.unlink() if text is None else driver.write_text(text)
    assert nvidia.driver_version() is None


@pytest.mark.usefixtures("driver")
def test_what_is_seen_of_two_gpus(see: See) -> None:
    known = {"driver": "470.256.02"}
    assert see(TWO).devices == (
        Device(
            "CUDA0",
            "NVIDIA GeForce RTX 4090",
            **known,
            memory_total=24564 * MIB,
            memory_free=24009 * MIB,
            capability="8.9",
        ),
        Device(
            "CUDA1",
            "NVIDIA GeForce GTX 1080 Ti",
            **known,
            memory_total=12000 * MIB,
            memory_free=11800 * MIB,
            capability="6.1",
        ),
    )


def test_a_driver_that_is_too_old(see: See, driver: Path) -> None:
    found = see(REFUSED.format(INSUFFICIENT))
    assert (found.devices, found.trouble) == ((), "driver 470.256.02, needs 580")
    assert found.remedy == nvidia.REMEDY and "driver 580 or a later one" in nvidia.REMEDY
    driver.unlink()
    assert nvidia.refusal(REFUSED.format(INSUFFICIENT)) == ("its driver is too old, needs 580", found.remedy)


def test_a_driver_without_a_gpu(see: See) -> None:
    assert see(REFUSED.format("no CUDA-capable device is detected")) == Look("cuda")


def test_a_driver_that_does_not_start(see: See) -> None:
    found = see(REFUSED.format("unknown error"))
    assert (found.trouble, found.remedy) == ("CUDA does not start: 'unknown error'", None)


def test_no_driver(see: See, tmp_path: Path) -> None:
    program = tmp_path / "engine"
    missing = (
        "failed to load /x/libggml-cuda.so: libcuda.so.1: cannot open shared object file: No such file or directory"
    )
    program.write_text(f"#!/bin/sh\necho '{missing}'\nexit 1\n")
    program.chmod(0o755)
    (found,) = look([CUDA], lambda backend: Placed(program, (tmp_path / "libggml-cuda.so",)), None)
    assert found.trouble == "libcuda.so.1 is not installed"
