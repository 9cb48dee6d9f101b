"""Artifacts to run without freezing anything: one with the engine of fake_engine.py, and a real one if there is one.

MKLLM_TEST_ARTIFACT names an artifact with a real engine; without it `engine_artifact` is the fake one.
"""

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.divide import undivided
from mkllm.builder.model.weights import Weights
from mkllm.builder.prepack import Prepacking
from mkllm.builder.writer import Facts, Program, Shelf, write
from mkllm.runtime.artifact import manifest as m

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
KERNELS = ("cpu-x64", "cpu-sse42", "cpu-haswell", "cpu-zen4")
GPUS = ("vulkan",)
HASWELL = {
    "machine": "x86_64",
    "cpu_flags": ["sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"],
    "cores": 2,
    "cpus": 4,
    "cpu_quota": None,
    "memory_available": 8 << 30,
}


class Build(Protocol):
    def __call__(self, target: Path, **changes: Any) -> Path: ...


class Run(Protocol):
    def __call__(
        self, artifact: Path, *words: str, stdin: str = ..., env: Mapping[str, str] = ...
    ) -> subprocess.CompletedProcess[str]: ...


MODEL = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
MEMORY = m.Memory(64, 64, 0, 0, 0, True, 1 << 20, 1024, 1024)


def _member(kernel: str) -> str:
    return f"native/libggml-{kernel}.so" + (".gz" if kernel.startswith("cpu-") else "")


def _packed(kernel: str) -> bytes:
    data = kernel.encode() * 100
    return gzip.compress(data, mtime=0) if kernel.startswith("cpu-") else data


def make_kit(folder: Path, kernels: tuple[str, ...] = KERNELS, windows: bytes | None = None) -> Kit:
    """A kit with the fake engine, or with `windows`, an engine for Windows."""
    engine = (f"#!{sys.executable} -I\n" + FAKE_ENGINE.read_text()).encode()
    program = "native/mkllm-engine" + (".exe" if windows else "")
    files = {
        "bootloader": b"\x7fELF of tests",
        "runtime.pkg": b"PKG of tests",
        f"members/{program}": windows or engine,
        "members/native/libllama.so": b"a library",
        "members/licenses/llama.cpp.txt": b"MIT of tests\n",
        "members/web/index.html": b"<html></html>",
        **{f"members/{_member(name)}": _packed(name) for name in kernels},
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o755)
    described = {
        "id": "0123456789abcdef",
        "target": "linux-x86_64",
        "versions": {"llama_cpp": "0.0", "python": "3.11"},
        "glibc": "2.17",
        "engine": {"program": program, "libraries": ["native/libllama.so"]},
        "backends": [{"name": name, "member": _member(name)} for name in kernels],
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }
    (folder / "kit.json").write_text(json.dumps(described))
    return Kit.read(folder)


@pytest.fixture(scope="session")
def build_fake(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build_fake(target, model={…}, defaults={…})`: an artifact with the fake engine; changes go into the manifest.

    `kit` is another kit. With `gpus=True` it has a backend for them, with `gpus="both"` CUDA too; with `prepack=True`
    its weights are prepacked for cpu-haswell; with `beside=True` they lie beside it."""
    plain = make_kit(tmp_path_factory.mktemp("kit"))
    with_gpus = make_kit(tmp_path_factory.mktemp("kit"), (*KERNELS, *GPUS))
    with_both = make_kit(tmp_path_factory.mktemp("kit"), (*KERNELS, "cuda", *GPUS))

    def build(target: Path, **changes: Any) -> Path:
        kit = changes.get("kit") or {True: with_gpus, "both": with_both}.get(changes.get("gpus"), plain)
        facts = dict(architecture="llama", parameters=1000, quantization="Q8_0", context=4096, license="Apache-2.0")
        packing = Prepacking(kit, "cpu-haswell") if changes.get("prepack") else None
        model = {
            "member": m.PREPACKED if packing else m.WEIGHTS,
            "layers": 4,
            "layer_bytes": 4,
            "chat_template": "{{x}}",
            "title": "Fake",
            "memory": MEMORY,
            **facts,
            **changes.get("model", {}),
        }

        def describe(facts: Facts) -> m.Manifest:
            return m.Manifest(
                created_by="mkllm 0.0",
                name="fake",
                target=kit.target,
                kit=m.Kit(kit.id, "0.0", "3.11", "2.17"),
                model=m.Model(**model),
                defaults=m.Defaults(**changes.get("defaults", {})),
                engine=m.Engine(kit.engine_program, kit.engine_libraries),
                backends=tuple(m.Backend(*backend) for backend in kit.backends),
                members=facts.members,
                bootloader=facts.bootloader,
                pkg=facts.pkg,
                provenance=m.Provenance("fake.gguf", "file", facts.origin),
                prepacked=m.Prepacked(packing.kernel, len(MODEL)) if packing else None,
                beside=facts.beside,
            )

        weights, beside = Weights((MODEL,)), bool(changes.get("beside"))
        write(
            [Program(target, kit, describe, beside)],
            weights,
            force=True,
            progress=lambda done: None,
            prepacking=packing,
            shelf=Shelf((target.with_name(f"{target.name}.weights"),), undivided(weights)) if beside else None,
        )
        return target

    return build


@pytest.fixture(scope="session")
def kit_for_windows() -> Callable[[Path, bytes], Kit]:
    """`kit_for_windows(folder, program)`: a kit whose engine is this program for Windows."""
    return lambda folder, program: make_kit(folder, windows=program)


@pytest.fixture(scope="session")
def fake_artifact(build_fake: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose engine is the fake one."""
    return build_fake(tmp_path_factory.mktemp("artifact") / "fake")


@pytest.fixture(scope="session")
def engine_artifact(fake_artifact: Path) -> Path:
    """The artifact with the real engine if one is named by MKLLM_TEST_ARTIFACT, else the fake one."""
    named = os.environ.get("MKLLM_TEST_ARTIFACT")
    return Path(named) if named else fake_artifact


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine is a Haswell, whatever it is."""
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(HASWELL))
    monkeypatch.setenv("MKLLM_PROBE", str(file))
    yield file


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """`become(artifact)`: it is this program's own file, and temporary folders are in the test's, which is returned."""

    def becoming(artifact: Path) -> Path:
        monkeypatch.setenv("MKLLM_ARTIFACT", str(artifact))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        return tmp_path

    return becoming


@pytest.fixture
def misbehaviour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`misbehaviour(start={…}, …)` tells the fake engines to come what to do; the path is their journal."""

    def tell(**config: Any) -> Path:
        journal = tmp_path / "journal"
        (tmp_path / "fake.json").write_text(json.dumps({**config, "journal": str(journal)}))
        monkeypatch.setenv("FAKE_ENGINE", str(tmp_path / "fake.json"))
        return journal

    return tell


@pytest.fixture
def run() -> Run:
    """`run(artifact, *words)`: the artifact's command line, unfrozen, to its end."""

    def running(
        artifact: Path, *words: str, stdin: str = "", env: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mkllm.runtime", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "MKLLM_ARTIFACT": str(artifact), **env},
        )

    return running
