"""A launch on a machine with GPUs, with the fake engine: what is started, and what is said when it fails."""

import json

import pytest

from mkllm.runtime.engine import nvidia
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.errors import EngineUnusable, TooLittleMemory
from mkllm.runtime.session import start_session

from .conftest import HASWELL

GIB = 1 << 30
GPU = "Available devices:\n  Vulkan0: NVIDIA GeForce RTX 3060 (12288 MiB, 11873 MiB free)\n"


@pytest.fixture(scope="session")
def gpu_artifact(build_fake, tmp_path_factory):
    return build_fake(tmp_path_factory.mktemp("artifact") / "gpu", gpus=True)


@pytest.fixture
def here(gpu_artifact, played, become):
    return become(gpu_artifact)


def launched(kernel=None, **options):
    """Kernel, reason, notes and the engine's arguments of a launch that became ready."""
    with start_session(EngineOptions(**options), kernel, Logging()) as session:
        ready = session.engine.wait_ready(20)
        with open(f"/proc/{ready.pid}/cmdline") as file:
            return ready, session.notes, file.read().split("\0")


def test_the_gpu_is_used_and_said(here, misbehaviour):
    journal = misbehaviour(devices=GPU)
    ready, notes, words = launched()
    assert (ready.kernel, ready.reason) == ("vulkan", "NVIDIA GeForce RTX 3060, 12 GiB; all 4 layers")
    assert notes == () and words[words.index("serve") + 1 :][:4] == ["--device", "Vulkan0", "--n-gpu-layers", "999"]
    assert journal.read_text().split()[1:] == ["start", "libggml-vulkan.so"]


def test_a_crash_on_the_gpu_falls_to_the_cpu(here, misbehaviour):
    journal = misbehaviour(devices=GPU, start={"libggml-vulkan.so": "SIGSEGV"})
    ready, _, words = launched()
    assert (ready.kernel, ready.restarts) == ("cpu-haswell", 1) and "--device" not in words
    assert "the engine with vulkan was ended by SIGSEGV" in ready.last_failure
    assert [line.split()[-1] for line in journal.read_text().splitlines()] == [
        "libggml-vulkan.so",
        "libggml-cpu-haswell.so",
    ]


def test_a_module_that_the_engine_cannot_load_falls_to_the_cpu(here, misbehaviour):
    misbehaviour(devices=GPU, start={"libggml-vulkan.so": "unloadable"})
    assert launched()[0].kernel == "cpu-haswell"


def test_a_gpu_that_has_too_little_memory_after_all_falls_to_the_cpu(here, misbehaviour):
    """The engine ends by itself then, which for a kernel of the CPU would be the end of the launch."""
    misbehaviour(devices=GPU, start={"libggml-vulkan.so": "exit 1"})
    ready, _, _ = launched()
    assert ready.kernel == "cpu-haswell" and "vulkan ended with status 1" in ready.last_failure


def test_what_is_wrong_with_the_words_is_said_by_the_last_kernel(here, misbehaviour):
    misbehaviour(devices=GPU)
    with pytest.raises(EngineUnusable, match="with cpu-haswell ended with status 1 .*no other kernel would help"):
        launched(extra=("--wrong",))


def test_a_driver_that_crashes_when_it_is_looked_at_costs_a_sentence(here, misbehaviour):
    misbehaviour(devices="SIGSEGV")
    ready, notes, _ = launched()
    assert ready.kernel == "cpu-haswell" and notes == ("vulkan: skipped, its driver crashed (SIGSEGV)",)


def test_the_users_words_come_last_and_are_what_is_said(here, misbehaviour):
    misbehaviour(devices=GPU)
    ready, _, words = launched(extra=("-ngl", "3"))
    assert ready.reason == "NVIDIA GeForce RTX 3060, 12 GiB; 2 of 4 layers, the rest on cpu-haswell"
    assert words.index("--n-gpu-layers") < words.index("-ngl")


def test_another_kernel_by_name_looks_at_nothing(here, misbehaviour):
    misbehaviour(devices="SIGSEGV")
    ready, notes, _ = launched("cpu-sse42")
    assert ready.kernel == "cpu-sse42" and notes == ()


def test_a_gpu_by_name_that_is_not_there_is_an_error_and_no_other_kernel(here, misbehaviour):
    misbehaviour()
    with pytest.raises(EngineUnusable, match="'vulkan' does not run here .skipped, no GPU with a driver is there"):
        launched("vulkan")


def test_a_file_without_a_backend_for_gpus_starts_nothing_to_look(here, fake_artifact, misbehaviour, monkeypatch):
    monkeypatch.setenv("MKLLM_ARTIFACT", str(fake_artifact))
    monkeypatch.setattr("mkllm.runtime.engine.look.look", None)
    misbehaviour(devices="SIGSEGV")
    ready, notes, _ = launched()
    assert ready.kernel == "cpu-haswell" and notes == ()


def test_a_file_without_a_backend_for_gpus_imports_nothing_for_them(here, fake_artifact, run):
    words = run(fake_artifact, "info", env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    imported = {line.rpartition("|")[2].strip() for line in words.splitlines()}
    assert "mkllm.runtime.hardware.rank" in imported
    gpu_only = {f"mkllm.runtime.{name}" for name in ("hardware.devices", "hardware.offload", "engine.look")}
    assert not gpu_only & imported


def test_a_model_too_large_for_the_machine_alone(here, played, misbehaviour):
    misbehaviour(devices=GPU)
    played.write_text(json.dumps({**HASWELL, "memory_total": 64 << 20, "memory_available": 60 << 20}))
    assert launched()[0].kernel == "vulkan"
    misbehaviour()
    with pytest.raises(TooLittleMemory):
        launched()


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_doctor_ranks_as_a_launch_does_and_measures_no_gpu(here, gpu_artifact, run, misbehaviour, effort):
    journal = misbehaviour(devices=GPU, tokens=1000.0)
    done = run(gpu_artifact, "doctor", "--json", "--tune", effort)
    seen = json.loads(done.stdout)
    assert seen["kernels"][0] == {"name": "vulkan", "reason": "NVIDIA GeForce RTX 3060, 12 GiB; all 4 layers"}
    assert seen["chosen"]["kernel"] == "vulkan" and seen["tuning"] is None
    assert not journal.exists() or "measure" not in journal.read_text()


def test_info_shows_what_was_seen(here, gpu_artifact, run, misbehaviour):
    misbehaviour(devices=GPU)
    lines = run(gpu_artifact, "info").stdout.splitlines()
    assert "kernel    vulkan (NVIDIA GeForce RTX 3060, 12 GiB; all 4 layers)" in lines
    seen = json.loads(run(gpu_artifact, "info", "--json").stdout)["machine"]["gpus"]
    assert seen[0]["devices"][0]["memory_total"] == 12 * GIB


CUDA = """ggml_cuda_init: found 1 CUDA devices (Total VRAM: 12288 MiB):
  Device 0: NVIDIA GeForce RTX 3060, compute capability 8.6, VMM: yes, VRAM: 12288 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11873 MiB free)
"""
OLD = """ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version
Available devices:
  (none)
"""


@pytest.fixture
def nvidia_here(build_fake, played, tmp_path_factory, tmp_path, monkeypatch):
    """A file with CUDA and Vulkan; the kernel has NVIDIA's driver 470.256.02."""
    artifact = build_fake(tmp_path_factory.mktemp("artifact") / "both", gpus="both")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Sun May 12\n")
    monkeypatch.setattr(nvidia, "VERSION_FILE", tmp_path / "version")
    monkeypatch.setenv("MKLLM_ARTIFACT", str(artifact))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_cuda_before_vulkan(nvidia_here, misbehaviour):
    journal = misbehaviour(devices={"libggml-cuda.so": CUDA, "libggml-vulkan.so": GPU})
    ready, notes, words = launched()
    assert (ready.kernel, ready.reason, notes) == ("cuda", "NVIDIA GeForce RTX 3060, 12 GiB; all 4 layers", ())
    assert words[words.index("--device") + 1] == "CUDA0"
    assert journal.read_text().split()[1:] == ["start", "libggml-cuda.so"]


def test_vulkan_after_a_crash_of_cuda(nvidia_here, misbehaviour):
    devices = {"libggml-cuda.so": CUDA, "libggml-vulkan.so": GPU}
    misbehaviour(devices=devices, start={"libggml-cuda.so": "SIGABRT"})
    ready, _, words = launched()
    assert (ready.kernel, words[words.index("--device") + 1]) == ("vulkan", "Vulkan0")
    assert "the engine with cuda was ended by SIGABRT" in ready.last_failure


def test_vulkan_where_the_driver_is_too_old_for_cuda(nvidia_here, misbehaviour):
    misbehaviour(devices={"libggml-cuda.so": OLD, "libggml-vulkan.so": GPU})
    ready, notes, _ = launched()
    assert ready.kernel == "vulkan" and notes == ("cuda: skipped, driver 470.256.02, needs 580",)
