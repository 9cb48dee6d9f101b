"""The demo model with its weights beside the program: in one file and in several, moved, missing and damaged."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import random_gguf

from mkllm.builder import build as building
from mkllm.builder.build import Request, make
from mkllm.builder.kit.store import find_kit
from mkllm.builder.model.divide import divide
from mkllm.builder.model.reference import DEMO_FILE, resolve
from mkllm.builder.placing import Limits
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.manifest import Defaults

QUESTION = "What is mkllm?"
PART = 600_000


def ask(program: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *(words or ("-p", QUESTION, "--temperature", "0"))],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ | env, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair(mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    done = subprocess.run(
        [mkllm, "build", "demo", "-o", folder / "demo", "--split", "always"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    request = Request("demo", folder / "demo", None, None, Defaults(), False, limits=Limits("always"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "division", lambda weights, path, limits, packed: divide(weights, path, PART))
        made = make(folder / "demo", find_kit("linux-x86_64"), resolve("demo", Output(True)), request, Output(True))
    assert len(made.beside) == 3
    return folder


@pytest.fixture(params=["pair", "parts"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    shutil.copytree(request.getfixturevalue(request.param), tmp_path / "copy ü")
    return tmp_path / "copy ü"


def weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.weights*"))


def test_the_same_answer_wherever_they_are(folder: Path, demo: Path) -> None:
    """Moved; started from elsewhere, through a link; the program renamed; then the weights after it; or elsewhere."""
    expected = ask(demo).stdout
    assert len(expected) > 20
    assert ask(folder / "demo").stdout == expected
    link = folder.parent / "link"
    link.symlink_to(folder / "demo")
    assert ask(link).stdout == expected
    renamed = (folder / "demo").rename(folder / "other")
    assert ask(renamed).stdout == expected
    for path in weights(folder):
        path.rename(folder / path.name.replace("demo", "other"))
    assert ask(renamed).stdout == expected
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    for path in weights(folder):
        path.rename(elsewhere / path.name.replace("other", "demo"))
    assert ask(renamed).returncode == 33
    assert ask(renamed, MKLLM_WEIGHTS=str(elsewhere)).stdout == expected


def test_they_are_mapped_where_they_lie(folder: Path, serve: Callable[..., object]) -> None:
    with serve(folder / "demo") as server:  # type: ignore[attr-defined]
        maps = Path(f"/proc/{server.engine.pid}/maps").read_text()
        assert all(str(path) in maps for path in weights(folder))


def answer_of(base: str) -> str:
    question = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 20}
    request = urllib.request.Request(f"{base}/v1/chat/completions", json.dumps(question).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def test_files_that_are_replaced_while_it_runs_do_no_harm(
    folder: Path, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """An engine that is started again, after the end of the first one, has the weights that were there at the start."""
    with serve(folder / "demo") as server:
        expected, engine = answer_of(server.url), server.engine
        for path in weights(folder):
            (tmp_path / "other").write_bytes(bytes(path.stat().st_size))
            (tmp_path / "other").replace(path)
        engine.kill()
        psutil.wait_procs([engine], 5)
        server.wait_ready()
        assert answer_of(server.url) == expected and server.engine.pid != engine.pid
    done = ask(folder / "demo")
    assert done.returncode == 33 and "it has the same size and another content" in done.stderr


def test_one_that_is_missing(folder: Path) -> None:
    gone = weights(folder)[-1]
    gone.rename(folder.parent / "gone")
    for words in (("-p", "Hello"), (), ("verify",), ("extract", "-o", str(folder / "x")), ("doctor",), ("bench",)):
        done = ask(folder / "demo", *words) if words else ask(folder / "demo", "serve")
        assert done.returncode == 33 and done.stdout == "", words
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
        assert repr(gone.name) in done.stderr and f"is not in '{folder}'" in done.stderr
    seen = ask(folder / "demo", "info")
    assert seen.returncode == 0 and gone.name in seen.stdout and "needs its weights" in seen.stdout
    assert "needs its weights" in json.loads(ask(folder / "demo", "info", "--json").stdout)["missing"]


def test_one_that_is_another(folder: Path) -> None:
    path = weights(folder)[0]
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    done = ask(folder / "demo")
    assert done.returncode == 33 and f"it has {len(data) + 1:,} bytes instead of {len(data):,}" in done.stderr
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = ask(folder / "demo")
    assert done.returncode == 33 and "it has the same size and another content" in done.stderr
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1  # which only `verify` sees
    path.write_bytes(damaged)
    done = ask(folder / "demo", "verify")
    assert done.returncode == 31 and f"{path.name}: its {len(data)} bytes from offset 0 are not" in done.stderr
    assert ask(folder / "demo", "extract", "-o", str(folder / "x")).returncode == 31


def test_the_model_comes_back(folder: Path) -> None:
    done = ask(folder / "demo", "extract", "-o", str(folder / "again.gguf"))
    assert done.returncode == 0, done.stderr
    assert (folder / "again.gguf").read_bytes() == DEMO_FILE.read_bytes()
    done = ask(folder / "demo", "verify")
    assert done.returncode == 0 and weights(folder)[0].name in done.stdout
    done = ask(folder / "demo", "extract", "--force", "-o", str(weights(folder)[0]))
    assert done.returncode == 12 and "is the artifact itself" in done.stderr


def test_doctor_and_bench(folder: Path) -> None:
    seen = ask(folder / "demo", "doctor")
    assert seen.returncode == 0 and f"{weights(folder)[0].name} beside it" in seen.stdout
    raced = ask(folder / "demo", "bench", "--json", "--tokens", "4", "--prompt-tokens", "16")
    assert raced.returncode == 0, raced.stderr
    assert json.loads(raced.stdout)


def test_the_weights_are_what_other_tools_read(pair: Path, parts: Path, mkllm: Path, tmp_path: Path) -> None:
    assert (pair / "demo.weights").read_bytes() == DEMO_FILE.read_bytes()
    done = subprocess.run([mkllm, "build", weights(parts)[1], "-o", tmp_path / "again"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ask(tmp_path / "again").stdout == ask(pair / "demo").stdout


def test_a_slice_of_several_files_is_that_of_one(parts: Path) -> None:
    """What is measured at the first launch is the same part of the model."""
    native = find_kit("linux-x86_64").path / "members" / "native"
    base = {name: value for name, value in os.environ.items() if not name.startswith("MKLLM_")}
    with DEMO_FILE.open("rb") as file:
        whole = {"MKLLM_EMBEDDED": f"model.gguf={file.fileno()}@0:{DEMO_FILE.stat().st_size}"}
        made = [
            subprocess.run(
                [native / "mkllm-engine", "slice", "1"], env=base | env, stdout=subprocess.PIPE, check=True,
                pass_fds=(file.fileno(),),
            ).stdout
            for env in (whole, {"MKLLM_SPLIT": f"model.gguf={weights(parts)[0]}"})
        ]  # fmt: skip
    assert made[0] == made[1] and made[0].startswith(b"GGUF")


def test_prepacked_weights_beside(mkllm: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    random_gguf.write(model, random_gguf.SHAPES["tiny"], "Q4_0")
    words = [mkllm, "build", model, "-o", tmp_path / "tiny", "--split", "always", "--prepack", "haswell"]
    done = subprocess.run(words, capture_output=True, text=True)
    if "does not run on this machine" in done.stderr:
        pytest.skip("this machine has no AVX2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiny.weights").read_bytes() != model.read_bytes()
    done = ask(tmp_path / "tiny", "extract", "-o", str(tmp_path / "again.gguf"))
    assert done.returncode == 0 and (tmp_path / "again.gguf").read_bytes() == model.read_bytes(), done.stderr
    done = subprocess.run([mkllm, "extract", tmp_path / "tiny", "-o", tmp_path / "more.gguf"], capture_output=True)
    assert done.returncode == 0 and (tmp_path / "more.gguf").read_bytes() == model.read_bytes()
    done = ask(tmp_path / "tiny", "-p", "Hello", "--json")
    assert done.returncode == 0, done.stderr
