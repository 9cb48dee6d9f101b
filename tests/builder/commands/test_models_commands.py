"""`mkllm models`, `pull` and `bundle` as programs: what they print, what they refuse."""

import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from .program import Run, refused, run


@pytest.fixture
def mkllm(kit_cache: Path, folder: Path, tmp_path: Path) -> Run:
    """Runs `mkllm` in the folder, in an empty home."""
    home = {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "OLLAMA_MODELS": str(tmp_path / "none")}

    def running(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return run(folder, *args, env={**os.environ, **home, **env})

    return running


def test_models_are_listed(mkllm: Run) -> None:
    lines = mkllm("models", "qwen3-8b").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "DEFAULT", "CONTEXT", "RUNS", "HERE", "LICENCE"]
    cells = next(line.split() for line in lines if line.startswith("qwen3-8b "))
    assert cells[1:5] == ["5.03", "GB", "Q4_K_M", "40960"] and cells[-1] == "Apache-2.0"
    assert len(mkllm("models").stdout.splitlines()) > 100
    assert mkllm("models", "nothing like this").stdout.startswith(
        "no model in the catalogue has 'nothing like this'; hf:"
    )


def test_models_for_programs(mkllm: Run) -> None:
    (found,) = json.loads(mkllm("models", "dbrx", "--json").stdout)
    assert (
        found["size"] > 60e9 and not found["size_exact"] and found["files"]["Q3_K_M"]["file"].endswith("-of-00010.gguf")
    )
    assert found["runs_here"] in ("yes", "tight", "no") and found["license"] == "LicenseRef-Databricks-Open-Model"
    fitting = json.loads(mkllm("models", "--fitting", "--json").stdout)
    assert fitting and all(row["runs_here"] in ("yes", "tight") for row in fitting)


def test_what_is_on_this_machine_is_listed(mkllm: Run, tmp_path: Path, small_gguf: Path) -> None:
    assert mkllm("models", "--local").stdout == "no model on this machine\n"
    path = tmp_path / "home/.cache/gpt4all/small.Q8_0.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(small_gguf.read_bytes())
    header, line = mkllm("models", "--local", "gpt4all").stdout.splitlines()
    assert header.split()[:2] == ["PROGRAM", "MODEL"] and line.split()[:2] == ["GPT4All", str(path)]
    (found,) = json.loads(mkllm("models", "--local", "--json").stdout)
    assert found["size"] == path.stat().st_size and found["quantization"] == "Q8_0" and found["runs_here"] == "yes"


def test_pull_fetches_and_tells_where(mkllm: Run, folder: Path) -> None:
    done = mkllm("pull", "model.gguf")
    assert done.returncode == 0 and done.stdout.splitlines()[1] == str(folder / "model.gguf")
    assert done.stdout.startswith("model.gguf: ") and "Q8_0, nobody promised a hash" in done.stdout
    facts = json.loads(mkllm("pull", "demo", "--json").stdout)
    assert facts["reference"] == "demo" and facts["paths"][0].endswith("demo.gguf")


def test_pull_offline(mkllm: Run, tmp_path: Path) -> None:
    words = ("pull", "mistral-7b", "--offline")
    folder = "models--MaziyarPanahi--Mistral-7B-Instruct-v0.3-GGUF"
    refused(
        mkllm(*words), 15, "--offline forbids asking the hub", f"copy the folder {folder!r}", str(tmp_path / "hf/hub")
    )
    refused(mkllm("build", *words[1:]), 15, "--offline forbids asking the hub")
    refused(mkllm("run", "--offline", "mistral-7b"), 15, "--offline forbids asking the hub")
    refused(mkllm("pull", "mistral-7b", HF_HUB_OFFLINE="1"), 15, "HF_HUB_OFFLINE")
    assert mkllm("pull", "model.gguf", "--offline").returncode == 0


def test_names_that_are_wrong(mkllm: Run) -> None:
    refused(
        mkllm("pull", "mistrl-7b"),
        10,
        "there is no model 'mistrl-7b': did you mean 'mistral-7b' or ",
        "`mkllm models WORD`",
    )
    refused(mkllm("build", "mistral"), 10, "'mistral' may be any of 5 models: name one of mistral-7b, ")
    refused(mkllm("pull", "ollama:none"), 10, "this machine has no store of Ollama (looked in ")


def test_bundle_is_refused_before_anything_is_made(mkllm: Run, folder: Path) -> None:
    refused(mkllm("bundle", "model.gguf", "-o", "."), 12, "'.' exists already and is not empty: choose another folder")
    refused(mkllm("bundle", "model.gguf", "-o", "model.gguf"), 12, "exists already")
    refused(mkllm("bundle", "model.gguf", "-o", "x", "--target", "none"), 20, "'none'")
    refused(mkllm("bundle", "none.gguf", "-o", "x"), 10, "'none.gguf'")
    assert not (folder / "x/wheels").exists()


def test_the_own_wheel_is_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import importlib.metadata

    from mkllm.builder import own_wheel
    from mkllm.builder.errors import ToolFailed

    site = tmp_path / "site"
    texts = {
        "mkllm/builder/__init__.py": "x = 1\n",
        "mkllm-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: mkllm\nVersion: 9.9\n",
        "mkllm-9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "mkllm-9.9.dist-info/INSTALLER": "pip\n",
        "mkllm/builder/__pycache__/x.pyc": "",
    }
    rows = []
    for name, text in texts.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(text)}\n")
    (site / "mkllm-9.9.dist-info/RECORD").write_text(
        "".join([*rows, "../../bin/mkllm,,\n", "mkllm-9.9.dist-info/RECORD,,\n"])
    )
    found = importlib.metadata.Distribution.at(site / "mkllm-9.9.dist-info")
    monkeypatch.setattr(own_wheel, "distribution", lambda name: found)
    wheel = own_wheel.write_own_wheel(tmp_path)
    again = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist() == [
            "mkllm-9.9.dist-info/METADATA", "mkllm-9.9.dist-info/WHEEL", "mkllm/builder/__init__.py",
            "mkllm-9.9.dist-info/RECORD",
        ]  # fmt: skip
        record = archive.read("mkllm-9.9.dist-info/RECORD").decode()
    assert record.splitlines()[:3] == [row.strip() for row in (rows[1], rows[2], rows[0])]
    assert own_wheel.write_own_wheel(tmp_path).read_bytes() == again
    (site / "mkllm/builder/__init__.py").write_text("x = 2\n")
    with pytest.raises(
        ToolFailed, match="the installed mkllm was changed: 'mkllm/builder/__init__.py' is not what was"
    ):
        own_wheel.write_own_wheel(tmp_path)
    monkeypatch.setattr(own_wheel, "distribution", lambda name: importlib.metadata.distribution("click"))
    with pytest.raises(ToolFailed, match="is not installed as a package, of which a wheel could be made"):
        own_wheel.write_own_wheel(tmp_path)
