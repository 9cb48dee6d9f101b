"""A look at GPUs through drivers of every kind: each is a little program in the engine's place."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine import look as looking
from mkllm.runtime.engine.device_list import read_devices
from mkllm.runtime.engine.look import look
from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.errors import NoSpace
from mkllm.runtime.hardware.devices import Device, Look

VULKAN = Backend("vulkan", "native/libggml-vulkan.so")
MIB = 1 << 20
DETAILS = "| fp16: 1 | bf16: 0 | fp4: 0 | warp size: 32 | shared memory: 49152 | int dot: 1 | matrix cores: none"
TWO = f"""\
ggml_vulkan: Found 2 Vulkan devices:
ggml_vulkan: 0 = Intel(R) UHD Graphics 630 (CFL GT2) (Intel open-source Mesa driver) | uma: 1 {DETAILS}
ggml_vulkan: 1 = NVIDIA GeForce RTX 3060 (NVIDIA) | uma: 0 {DETAILS}
load_backend: loaded Vulkan backend from libggml-vulkan.so
Available devices:
  Vulkan0: Intel(R) UHD Graphics 630 (CFL GT2) (15901 MiB, 14311 MiB free)
  Vulkan1: NVIDIA GeForce RTX 3060 (12288 MiB, 11873 MiB free)
"""
SOFTWARE = f"""\
ggml_vulkan: 0 = llvmpipe (LLVM 15.0.6, 256 bits) (llvmpipe) | uma: 0 {DETAILS}
ggml_vulkan: Warning: Device type is CPU. This is probably not the device you want.
Available devices:
  Vulkan0: llvmpipe (LLVM 15.0.6, 256 bits) (2048 MiB, 2048 MiB free)
"""
NONE = "Available devices:\n  (none)\n"
LOST = "mkllm-engine: none of the modules of MKLLM_BACKENDS could be loaded"
See = Callable[[str], Look]


@pytest.fixture
def see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> See:
    """`see(script)`: the look through an engine that is this shell script."""
    monkeypatch.delenv("GGML_VK_VISIBLE_DEVICES", raising=False)

    def seeing(script: str) -> Look:
        program = tmp_path / "engine"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        (found,) = look([VULKAN], lambda backend: Placed(program, (tmp_path / "libggml-vulkan.so",)), None)
        return found

    return seeing


def saying(words: str, then: str = "") -> str:
    return f"cat <<'END'\n{words}\nEND\n{then}"


def test_what_a_driver_says_of_two_gpus(see: See) -> None:
    assert see(saying(TWO)).devices == (
        Device(
            "Vulkan0",
            "Intel(R) UHD Graphics 630 (CFL GT2)",
            "integrated",
            "Intel open-source Mesa driver",
            15901 * MIB,
            14311 * MIB,
        ),
        Device("Vulkan1", "NVIDIA GeForce RTX 3060", "discrete", "NVIDIA", 12288 * MIB, 11873 * MIB),
    )


def test_a_software_renderer_is_only_seen_when_there_is_nothing_else(see: See) -> None:
    """The engine does not list it by itself, and must be told the same again when it is to use it."""
    script = f'if [ "$GGML_VK_VISIBLE_DEVICES" = 0 ]\nthen {saying(SOFTWARE)}\nelse {saying(NONE)}\nfi'
    (device,) = see(script).devices
    assert (device.kind, device.driver, device.title) == ("software", "llvmpipe", "llvmpipe")
    assert device.environment == {"GGML_VK_VISIBLE_DEVICES": "0"}


def test_no_driver_at_all(see: See) -> None:
    refused = saying(LOST, "exit 2")
    assert see(f'if [ "$GGML_VK_VISIBLE_DEVICES" ]\nthen {refused}\nelse {saying(NONE)}\nfi') == Look("vulkan")


def test_what_the_user_hides_stays_hidden(see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "")
    assert see(f'echo "$GGML_VK_VISIBLE_DEVICES" >&2\n{saying(NONE)}') == Look("vulkan")


@pytest.mark.parametrize(
    "script,trouble",
    [
        ("kill -SEGV $$", "its driver crashed (SIGSEGV)"),
        ("kill -ABRT $$", "its driver crashed (SIGABRT)"),
        (
            "echo 'load_backend: failed to load /a/b.so: libvulkan.so.1: cannot open shared object file: "
            f"No such file or directory' >&2; echo '{LOST}' >&2; exit 2",
            "libvulkan.so.1 is not installed",
        ),
        (
            f"echo 'ggml_vulkan: Error: Vulkan 1.2 required.'; echo '{LOST}'; exit 2",
            "its driver is older than Vulkan 1.2",
        ),
        (
            f"echo 'load_backend: failed to load /a/b.so: undefined symbol: it'; echo '{LOST}'; exit 2",
            "its module cannot be loaded: 'undefined symbol: it'",
        ),
        (
            "echo 'load_backend: failed to initialize backend from a.so: ggml_backend_init returned NULL'; "
            f"echo '{LOST}'; exit 2",
            "no driver that works is there",
        ),
        ("echo all is lost >&2; exit 3", "it ended with status 3: 'all is lost'"),
        ("exit 3", "it ended with status 3: 'nothing'"),
        (
            "printf 'gibberish \\033[31m\\n'",
            "what it said is no list of devices: 'gibberish \N{REPLACEMENT CHARACTER}[31m'",
        ),
        ("true", "what it said is no list of devices: 'nothing'"),
    ],
)
def test_a_driver_in_trouble_costs_a_sentence(see: See, script: str, trouble: str) -> None:
    assert see(script) == Look("vulkan", trouble=trouble)


def test_a_driver_that_hangs_is_ended_with_all_that_it_started(see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SECONDS", 0.3)
    before = time.monotonic()
    assert see("sleep 61 & sleep 62").trouble == "its driver did not answer within 0 s"
    assert time.monotonic() - before < 5
    assert not [
        child
        for child in psutil.process_iter()
        if child.status() != psutil.STATUS_ZOMBIE and child.cmdline() in (["sleep", "61"], ["sleep", "62"])
    ]


def test_the_kernels_of_metal_may_be_compiled_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(looking, "SECONDS", 0.3)
    engine = tmp_path / "engine"
    engine.write_text("#!/bin/sh\nsleep 1\necho Available devices:\n")
    engine.chmod(0o755)
    backends = [VULKAN, Backend("metal", "native/libggml-metal.so")]
    found = {one.backend: one.trouble for one in look(backends, lambda backend: Placed(engine, ()), None)}
    assert found == {"vulkan": "its driver did not answer within 0 s", "metal": None}


def test_an_engine_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("no program")
    (found,) = look([VULKAN], lambda backend: Placed(tmp_path / "engine", ()), None)
    assert found.trouble == "the engine cannot be executed: Permission denied"


def test_a_module_for_which_there_is_no_space() -> None:
    def place(backend: Backend) -> Placed:
        raise NoSpace("no space left")

    assert look([VULKAN], place, None) == (Look("vulkan", trouble="no space left"),)


def test_what_the_engine_is_told(see: See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_DEVICE", "none")
    told = tmp_path / "told"
    see(f'{{ echo "$@"; env; [ -e /proc/self/fd/"$MKLLM_LIFELINE_FD" ] && echo alive; }} > {told}')
    lines = told.read_text().splitlines()
    assert lines[0] == "bench --list-devices" and lines[-1] == "alive"
    assert f"MKLLM_BACKENDS={tmp_path / 'libggml-vulkan.so'}" in lines
    assert not [line for line in lines if line.startswith("LLAMA_")]


def test_no_descriptor_stays_open(see: See) -> None:
    see("true")
    before = os.listdir("/proc/self/fd")
    see("true")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_strange_names_do_not_reach_a_terminal() -> None:
    (device,) = (
        read_devices("Available devices:\n  Vulkan0: A\x1b[2J GPU (with (nested) words) (8 MiB, 9 MiB free)\n") or ()
    )
    assert device.description == "A\N{REPLACEMENT CHARACTER}[2J GPU (with (nested) words)"
    assert (device.kind, device.memory_free) == ("discrete", 8 * MIB)
