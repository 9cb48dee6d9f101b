"""The runtime under wine, unfrozen, with an artifact whose engine is fake_engine.py behind a little program."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wine import ROOT, Wine

SCRIPT = ROOT / "tests" / "runtime" / "fake_engine.py"
# What artifacts have not; and where temporary folders are, for which wine has variables of its own.
START = """
import os, sys
sys.modules["ssl"] = sys.modules["_ssl"] = None
if "TESTS_TEMP" in os.environ:
    os.environ["TMPDIR"] = os.environ["TESTS_TEMP"]
"""
LAUNCHER = Path(__file__).with_name("launcher.c")


@dataclass(frozen=True)
class Windows:
    """The artifact's command line on Windows, and what else runs there by the same Python."""

    wine: Wine
    artifact: Path
    environment: Mapping[str, str]

    def words(self, *words: str) -> tuple[str, ...]:
        return str(self.wine.python), "-X", "utf8", "-m", "mkllm.runtime", *words

    def run(self, *words: str, env: Mapping[str, str] = {}, **options: Any) -> "subprocess.CompletedProcess[str]":
        """The artifact's command line, to its end."""
        return self.wine.run(*self.words(*words), env={**self.environment, **env}, **options)

    def start(self, *words: str, env: Mapping[str, str] = {}) -> "subprocess.Popen[bytes]":
        """The artifact's command line, running."""
        return self.wine.popen(*self.words(*words), env={**self.environment, **env})

    def python(self, code: str, *words: str, env: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
        """A few lines of Python."""
        python = (str(self.wine.python), "-X", "utf8", "-c", code, *words)
        return self.wine.run(*python, env={**self.environment, **env})


@pytest.fixture(scope="session")
def packages(wine: Wine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that Python finds the runtime in; without the modules that artifacts have not."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "mkllm").mkdir()
    (folder / "mkllm" / "runtime").symlink_to(ROOT / "runtime")
    (folder / "sitecustomize.py").write_text(START)
    return folder


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program that stands for the engine."""
    zig = Path(pytest.importorskip("ziglang").__file__).parent
    program = tmp_path_factory.mktemp("launcher") / "launcher.exe"
    options = ["-target", "x86_64-windows-gnu", "-O2", "-s", "-fno-stack-protector"]
    bare = ["-nostdlib", "-isystem", zig / "lib/libc/include/any-windows-any", "-lkernel32", "-Wl,--entry,start"]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *options, *bare, "-o", program, LAUNCHER], check=True)
    return program.read_bytes()


@pytest.fixture(scope="session")
def fake_exe(
    build_fake: Any,
    kit_for_windows: Callable[[Path, bytes], Any],
    launcher: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The artifact, in a folder whose name has spaces and letters that are not ASCII."""
    kit = kit_for_windows(tmp_path_factory.mktemp("kit"), launcher)
    return Path(build_fake(tmp_path_factory.mktemp("Grüße aus 東京") / "fake model.exe", kit=kit))


@pytest.fixture
def windows(wine: Wine, packages: Path, fake_exe: Path, tmp_path: Path) -> Windows:
    """The artifact on Windows; its temporary folders are in the test's."""
    (tmp_path / "temp").mkdir()
    environment = {
        "PYTHONPATH": ";".join((wine.path(packages), wine.path(wine.packages))),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": wine.path(wine.prefix.parent / "compiled"),
        "MKLLM_ARTIFACT": wine.path(fake_exe),
        "FAKE_PYTHON": wine.path(wine.python),
        "FAKE_SCRIPT": wine.path(SCRIPT),
        "TESTS_TEMP": wine.path(tmp_path / "temp"),
    }
    return Windows(wine, fake_exe, environment)
