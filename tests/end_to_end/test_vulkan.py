"""The Vulkan backend on Mesa's software renderer, and on drivers that are made to fail.

Needs what the backend is compiled with (glslc and headers) and Mesa's Vulkan drivers; without them it is skipped. So it
is in a run that has just compiled the CPU variants, since both together take longer than a run should.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder import cache
from mkllm.builder.kit import toolchain
from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine.look import look
from mkllm.runtime.engine.placed import Placed

MISSING_TOOL = 21
MANIFESTS = Path("/usr/share/vulkan/icd.d")
QUESTIONS = ("What is mkllm?", "What is 7 times 8?")
A_RUN = 2 * 3600.0
SECONDS = 240  # the renderer compiles its shaders when they are first used
# A driver is a library whose first function the loader of Vulkan calls.
DRIVER = "int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {{ {} return 0; }}\n"
CRASH = "*(volatile int *) 0 = *version;"
HANG = "for (;;) sleep(1);"

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def vulkan_demo(mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo artifact with the Vulkan backend, of a kit beside the one in use, out of the same parts."""
    if _has_just_compiled(cache.folder("parts")):
        pytest.skip("the CPU variants were compiled a moment ago: the next run compiles the Vulkan backend")
    own = tmp_path_factory.mktemp("vulkan")
    for shared in ("downloads", "parts", "work", "zig"):
        (own / "cache").mkdir(exist_ok=True)
        (own / "cache" / shared).symlink_to(cache.folder(shared))
    environment = {**os.environ, "MKLLM_CACHE": str(own / "cache")}
    for words in (["kit", "build", "--backends", "vulkan"], ["build", "demo", "-o", own / "demo"]):
        done = subprocess.run(
            [mkllm, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode == MISSING_TOOL:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
    return own / "demo"


def _has_just_compiled(parts: Path) -> bool:
    """The native part was made within the time of a run, and no Vulkan part ever."""
    native = [path.stat().st_mtime for path in parts.glob("native-*/.complete")]
    return bool(native) and time.time() - max(native) < A_RUN and not any(parts.glob("vulkan-*/"))


@pytest.fixture(scope="session")
def renderer() -> Path:
    """The manifest of Mesa's software renderer, so that a GPU that is there changes nothing."""
    found = sorted(MANIFESTS.glob("lvp_icd*.json"))
    if not found:
        pytest.skip("Mesa's Vulkan drivers are not installed (Debian: mesa-vulkan-drivers)")
    return found[0]


@pytest.fixture(scope="session")
def ask(vulkan_demo: Path) -> Ask:
    """`ask(driver, *words)`: the artifact with only the Vulkan driver of that manifest; greedy, as JSON."""

    def asking(driver: Path, *words: str, question: str = QUESTIONS[0]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GGML_VK_")}
        drivers = {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver)}  # as new and old loaders call it
        return subprocess.run(
            [vulkan_demo, "-p", question, "--json", "--temp", "0", *words],
            env={**environment, **drivers},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )

    return asking


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_same_tokens_as_on_the_cpu(ask: Ask, renderer: Path, question: str) -> None:
    on_cpu = answer(ask(renderer, "--kernel", "cpu-x64", question=question))
    on_gpu = answer(ask(renderer, "--kernel", "vulkan", question=question))
    assert on_gpu["kernel"] == "vulkan" and on_gpu["reason"].startswith("llvmpipe, ")
    assert on_gpu["reason"].endswith("; all 5 layers")
    assert (on_gpu["text"], on_gpu["tokens"]) == (on_cpu["text"], on_cpu["tokens"])


def test_some_layers_on_the_gpu_and_the_rest_on_the_cpu(ask: Ask, renderer: Path) -> None:
    on_cpu = answer(ask(renderer, "--kernel", "cpu-x64"))
    on_both = answer(ask(renderer, "--kernel", "vulkan", "--", "-ngl", "3"))
    assert "; 2 of 5 layers, the rest on cpu-" in on_both["reason"]
    assert on_both["text"] == on_cpu["text"]


def test_a_software_renderer_is_not_chosen_and_that_is_said(ask: Ask, renderer: Path) -> None:
    done = ask(renderer)
    assert answer(done)["kernel"].startswith("cpu-")
    assert "note: vulkan: skipped, llvmpipe is a software renderer\n" in done.stderr


def test_a_loader_that_is_not_installed(vulkan_demo: Path, tmp_path: Path) -> None:
    """The real engine and module, which asks for a library of another name."""
    (kit,) = (vulkan_demo.parent / "cache" / "kits").glob("linux-x86_64-*/members/native")
    for path in kit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    module = tmp_path / "libggml-vulkan.so"
    data = module.read_bytes()
    module.unlink()
    module.write_bytes(data.replace(b"libvulkan.so.1\0", b"libvulkaX.so.1\0"))
    (found,) = look(
        [Backend("vulkan", "")], lambda backend: Placed(tmp_path / "mkllm-engine", (module,), tmp_path), None
    )
    assert found.trouble == "libvulkaX.so.1 is not installed"


def test_no_driver(ask: Ask, tmp_path: Path) -> None:
    done = ask(tmp_path / "none.json")
    assert answer(done)["kernel"].startswith("cpu-")
    assert "note: vulkan: skipped, no driver that works is there\n" in done.stderr


@pytest.mark.parametrize(
    "code,trouble",
    [(CRASH, "its driver crashed (SIGSEGV)"), (HANG, "its driver did not answer within 5 s")],
    ids=["crash", "hang"],
)
def test_a_driver_that_fails_costs_a_sentence(ask: Ask, tmp_path: Path, code: str, trouble: str) -> None:
    (tmp_path / "driver.c").write_text("#include <unistd.h>\n" + DRIVER.format(code))
    compiler = toolchain.write_wrappers(toolchain.find_zig(), TARGETS["linux-x86_64"], tmp_path)["cc"]
    words = [compiler, "-shared", "-fno-sanitize=all", "-o", tmp_path / "driver.so", tmp_path / "driver.c"]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **toolchain.environment()})
    manifest = {
        "file_format_version": "1.0.0",
        "ICD": {"library_path": str(tmp_path / "driver.so"), "api_version": "1.3.0"},
    }
    (tmp_path / "driver.json").write_text(json.dumps(manifest))
    done = ask(tmp_path / "driver.json")
    assert answer(done)["kernel"].startswith("cpu-")
    assert f"note: vulkan: skipped, {trouble}\n" in done.stderr
