"""A bundle builds on a machine without a network: in a network namespace that has nothing but itself."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mkllm.builder.model.reference import DEMO_FILE
from mkllm.runtime.artifact.reader import open_artifact

WITHOUT_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


def _hub_server() -> ModuleType:
    path = Path(__file__).parents[1] / "builder" / "model" / "hub_server.py"
    spec = importlib.util.spec_from_file_location("hub_server_of_bundles", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """The program's end; its output is shown when it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in words], **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL} | options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def isolated() -> list[str]:
    """Words before a command that leave it no network; tried first."""
    if not shutil.which("unshare") or subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    code = "import socket; socket.create_connection(('1.1.1.1', 53), 3)"
    assert subprocess.run([*WITHOUT_NETWORK, sys.executable, "-c", code], capture_output=True).returncode
    return WITHOUT_NETWORK


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mkllm` installed as a package, which that of this environment may not be."""
    folder = tmp_path_factory.mktemp("packaged") / "site"
    source = Path(__file__).parents[2]
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, source)
    return folder


def test_a_bundle_builds_without_a_network(packaged: Path, isolated: list[str], tmp_path: Path) -> None:
    server = _hub_server()
    hub = server.Hub()
    files = {"tiny-Q8_0.gguf": DEMO_FILE.read_bytes(), "LICENSE": b"Be kind.\n"}
    hub.repositories["org/tiny"] = server.Repository(files)
    hub.start()
    hub_here = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(packaged)}
    words = ["bundle", "hf:org/tiny:q8_0", "--target", "linux-x86_64", "-o", tmp_path / "stick", "--json"]
    made = json.loads(run(sys.executable, "-m", "mkllm.builder", *words, env={**os.environ, **hub_here}).stdout)
    hub.shutdown()
    hub.server_close()

    stick = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "stick", stick, symlinks=True)
    shutil.rmtree(tmp_path / "stick")
    shutil.rmtree(tmp_path / "hf")
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=stick)
    text = (stick / "README.txt").read_text()
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands[-1] == made["command"] and len(commands) == 3

    home = tmp_path / "home"
    home.mkdir()
    bare = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    script = " && ".join([*commands[:2], f"{commands[2]} -o out"])
    run(*isolated, "sh", "-c", script, cwd=stick, env=bare)
    with open_artifact(stick / "out") as artifact:
        provenance = artifact.manifest.provenance
        assert provenance.repository == "org/tiny" and provenance.revision == server.COMMIT
        assert artifact.manifest.name == "tiny-Q8_0" and artifact.read("licenses/model/LICENSE.txt") == b"Be kind.\n"
    answer = run(*isolated, stick / "out", "-p", "What is mkllm?", env=bare).stdout
    assert "mkllm" in answer
    assert "Be kind." in run(*isolated, stick / "out", "licenses", env=bare).stdout
