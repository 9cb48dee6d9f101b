"""The built file: a zip for everybody's tools, the GGUF back bit for bit, the same bytes each time."""

import hashlib
import json
import subprocess
import zipfile
from importlib import resources
from pathlib import Path

import pytest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="session")
def source() -> Path:
    """The default model as shipped."""
    return Path(str(resources.files("mkllm.builder.demo"))) / "demo.gguf"


def run(*args: str | Path, status: int = 0) -> str:
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def test_built_twice_it_has_the_same_bytes(mkllm: Path, demo: Path, tmp_path: Path) -> None:
    run(mkllm, "build", "demo", "-o", tmp_path / "demo")
    assert sha256(demo) == sha256(tmp_path / "demo")


def test_unzip_lists_and_tests_it(demo: Path) -> None:
    assert "model.gguf" in run("unzip", "-l", demo)
    assert "No errors detected" in run("unzip", "-tq", demo)


def test_python_reads_it_as_a_zip(demo: Path, source: Path) -> None:
    with zipfile.ZipFile(demo) as archive:
        assert archive.testzip() is None
        assert hashlib.sha256(archive.read("model.gguf")).hexdigest() == sha256(source)
        manifest = json.loads(archive.read("mkllm/manifest.json"))
        assert {member["name"] for member in manifest["members"]} | {"mkllm/manifest.json"} == set(archive.namelist())


def test_no_path_of_the_makers_machine_is_inside(demo: Path) -> None:
    with zipfile.ZipFile(demo) as archive:
        data = b"".join(archive.read(name) for name in archive.namelist() if name.startswith(("mkllm/", "native/")))
    for folder in (Path.home(), Path.cwd()):
        assert len(folder.parts) < 2 or str(folder).encode() + b"/" not in data


@pytest.mark.parametrize("by", ["mkllm", "itself", "unzip"])
def test_the_gguf_comes_back_bit_for_bit(by: str, mkllm: Path, demo: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    if by == "mkllm":
        run(mkllm, "extract", demo, "-o", out)
    elif by == "itself":
        run(demo, "extract", "-o", out)
    else:
        with out.open("wb") as file:
            subprocess.run(["unzip", "-p", demo, "model.gguf"], stdout=file, check=True)
    assert sha256(out) == sha256(source)


def test_inspect_and_verify(mkllm: Path, demo: Path) -> None:
    facts = json.loads(run(mkllm, "inspect", demo, "--json"))["manifest"]
    assert facts["name"] == "demo" and facts["model"]["architecture"] == "llama"
    assert "demo" in run(mkllm, "inspect", demo)
    run(mkllm, "verify", demo)
    run(demo, "verify")


def test_verify_names_what_differs(mkllm: Path, demo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    data = bytearray(demo.read_bytes())
    with zipfile.ZipFile(demo) as archive:
        offset = archive.getinfo("model.gguf").header_offset + 1_000_000
    data[offset] ^= 1
    copy.write_bytes(data)
    assert "model.gguf" in run(mkllm, "verify", copy, status=31)
