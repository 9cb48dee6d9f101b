"""The converter's environment: what is asked of pip, where torch is looked for, what is said when it is not there."""

import io
import os
import re
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from mkllm.builder import cache
from mkllm.builder.convert import environment
from mkllm.builder.convert.environment import pins
from mkllm.builder.errors import NoSource, NoSpace, ToolFailed
from mkllm.builder.progress import Output

QUIET = Output(True)
TOP = "llama_cpp_python-1/vendor/llama.cpp/"
FILES = {
    f"{TOP}convert_hf_to_gguf.py": b"convert",
    f"{TOP}conversion/base.py": b"base",
    f"{TOP}gguf-py/gguf/lazy.py": b"lazy",
    f"{TOP}requirements/requirements-convert_hf_to_gguf.txt": b"--extra-index-url https://index.test/cpu\ntorch==1\n",
    f"{TOP}src/llama.cpp": b"not wanted",
    "llama_cpp_python-1/convert_other.py": b"not wanted",
}
NOT_THERE = "ERROR: Could not find a version that satisfies\nERROR: No matching distribution found for "


class Pip:
    """Plays pip: `missing` are requirements that it finds only in that other index."""

    def __init__(self, missing: str = "", elsewhere: bool = True) -> None:
        self.calls: list[tuple[list[str], list[str]]] = []
        self.missing, self.elsewhere = missing, elsewhere

    def __call__(self, command: Sequence[str | Path], wanted: Iterable[str]) -> None:
        words, lines = [str(word) for word in command], list(wanted)
        self.calls.append((words, lines))
        found = [line for line in lines if self.missing and line.startswith(self.missing)]
        if found and not ("--extra-index-url" in words and self.elsewhere):
            raise ToolFailed(f"'python' ended with status 1\n  {NOT_THERE}{found[0].split(' ')[0]} (from -r x)")


@pytest.fixture
def archive(tmp_path: Path, kit_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "llama_cpp_python-1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    monkeypatch.setattr(environment.sdist, "fetch", lambda pinned: path)
    return path


def made(monkeypatch: pytest.MonkeyPatch, pip: Pip) -> environment.Environment:
    monkeypatch.setattr(environment, "pip", pip)
    return environment.environment(QUIET)


def test_made_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    found = made(monkeypatch, pip)
    files = {path.relative_to(found.source).as_posix() for path in found.source.rglob("*") if path.is_file()}
    assert files == {name.removeprefix(TOP) for name in FILES if name.startswith(TOP) and "src/" not in name}
    assert os.access(found.python, os.X_OK) and (found.path / "pyvenv.cfg").exists()
    (packages, torch) = pip.calls
    assert packages[0][:1] == ["--python"] and "--only-binary" in packages[0]
    assert torch[1][0].startswith("torch==2.") and "--extra-index-url" not in torch[0]
    assert made(monkeypatch, pip) == found and len(pip.calls) == 2


def test_torch_is_looked_for_in_the_index_that_the_converter_names(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip("torch==")
    made(monkeypatch, pip)
    assert pip.calls[-1][0][-2:] == ["--extra-index-url", "https://index.test/cpu"]


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_what_no_index_has(archive: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(NoSource, match=f"the converter needs {name}==.*, which no index that pip is set up with has"):
        made(monkeypatch, Pip(f"{name}==", elsewhere=False))
    assert [path.name for path in cache.folder("convert").iterdir() if path.suffix != ".lock"] == []


def test_other_failures_of_pip_stay(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: Sequence[str | Path], wanted: Iterable[str]) -> None:
        raise ToolFailed("'python' ended with status 2")

    monkeypatch.setattr(environment, "pip", fails)
    with pytest.raises(ToolFailed, match="status 2"):
        environment.environment(QUIET)


def test_no_room(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=1))
    with pytest.raises(NoSpace, match="no space for the converter's environment in .*: 2.50 GB needed, 1 B free"):
        made(monkeypatch, Pip())


def test_every_package_is_pinned() -> None:
    table = pins()
    assert set(table["packages"]) == set(table["wheels"])
    for hashes in (*table["wheels"].values(), table["torch"]["sha256"]):
        assert hashes and all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)
    assert table["torch"]["linux"] == f"{table['torch']['darwin']}+cpu"


def test_another_python_has_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.key()
    monkeypatch.setattr(sys, "executable", "/usr/bin/false")
    assert environment.key() != before
