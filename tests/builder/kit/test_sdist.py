"""Fetching a pinned sdist: through pip from a folder, kept, and refused when it is another file."""

import hashlib
import io
import re
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from mkllm.builder.errors import MissingTool, ToolFailed, WrongHash
from mkllm.builder.kit.pins import Sdist, sdist
from mkllm.builder.kit.sdist import fetch, unpack

ROOT = Path(__file__).parents[3]
PYPROJECT = b"""[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny-source"
version = "1.0"
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is told to look in, and in nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_sdist(folder: Path, more: Mapping[str, bytes] = MappingProxyType({})) -> str:
    files = {"pyproject.toml": PYPROJECT, "PKG-INFO": b"Name: tiny-source\nVersion: 1.0\n", **more}
    path = folder / "tiny_source-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"tiny_source-1.0/{name}")
            entry.size, entry.mtime = len(data), 1000
            tar.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_comes_through_pip_and_is_kept(index: Path) -> None:
    pinned = Sdist("tiny-source", "1.0", put_sdist(index))
    kept = fetch(pinned)
    assert kept.name == "tiny_source-1.0.tar.gz"
    (index / kept.name).unlink()
    assert fetch(pinned) == kept


def test_a_damaged_one_in_the_cache_is_fetched_again(index: Path) -> None:
    pinned = Sdist("tiny-source", "1.0", put_sdist(index))
    fetch(pinned).write_bytes(b"damaged")
    assert hashlib.sha256(fetch(pinned).read_bytes()).hexdigest() == pinned.sha256


def test_another_file_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    put_sdist(index)
    with pytest.raises(WrongHash, match="not a pinned one"):
        fetch(Sdist("tiny-source", "1.0", "0" * 64))
    assert [path.name for path in (tmp_path / "cache" / "downloads").iterdir()] == [".lock"]


def test_nothing_of_another_file_is_run(index: Path, tmp_path: Path) -> None:
    """pip asks a source's own build backend for its name and version: not before the hash is right."""
    ran = tmp_path / "ran"
    backend = f"open({str(ran)!r}, 'w').close()\nfrom setuptools.build_meta import *\n".encode()
    project = PYPROJECT.replace(b"setuptools.build_meta", b'own"\nbackend-path = ["."]#')
    found = put_sdist(index, {"pyproject.toml": project, "own.py": backend})
    with pytest.raises(WrongHash, match=f"'tiny-source==1.0' arrived with the SHA-256 {found}"):
        fetch(Sdist("tiny-source", "1.0", "0" * 64))
    assert not ran.exists()
    fetch(Sdist("tiny-source", "1.0", found))
    assert ran.exists()


def test_a_backend_that_is_not_installed(index: Path) -> None:
    project = PYPROJECT.replace(b"setuptools.build_meta", b"not_installed.anywhere")
    pinned = Sdist("tiny-source", "1.0", put_sdist(index, {"pyproject.toml": project}))
    with pytest.raises(MissingTool, match=r"run `pip install 'mkllm\[kit\]'`"):
        fetch(pinned)


@pytest.mark.parametrize("name", ["llama-cpp-python", "pyinstaller"])
def test_the_backends_of_the_pinned_sources_come_with_the_extra(name: str) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["kit"]
    with tarfile.open(fetch(sdist(name))) as tar:
        (project,) = [member for member in tar.getmembers() if re.fullmatch(r"[^/]+/pyproject.toml", member.name)]
        content = tar.extractfile(project)
        assert content
        wanted = tomllib.loads(content.read().decode())["build-system"]["requires"]
    assert {requirement_name(text) for text in wanted} <= {requirement_name(text) for text in extra}


def requirement_name(text: str) -> str:
    found = re.match(r"[\w.-]+", text)
    assert found
    return found[0].lower().replace("_", "-")


def test_what_a_killed_download_left_is_removed(index: Path, tmp_path: Path) -> None:
    stale = tmp_path / "cache/downloads/.new-tiny-source-x"
    stale.mkdir(parents=True)
    fetch(Sdist("tiny-source", "1.0", put_sdist(index)))
    assert not stale.exists()


def test_a_failed_download_says_what_to_do(index: Path) -> None:
    with pytest.raises(ToolFailed, match=r"tiny-source 1.0 could not be downloaded.*put 'tiny_source-1.0.tar.gz' into"):
        fetch(Sdist("tiny-source", "1.0", "0" * 64))


def test_unpacks_once(tmp_path: Path) -> None:
    put_sdist(tmp_path)
    sdist, folder = tmp_path / "tiny_source-1.0.tar.gz", tmp_path / "source"
    unpack(sdist, folder)
    assert (folder / "pyproject.toml").read_bytes() == PYPROJECT
    assert (folder / "PKG-INFO").stat().st_mtime == 1000
    (folder / "kept").touch()
    unpack(sdist, folder)
    assert (folder / "kept").exists()


def test_another_sdist_replaces_the_first(tmp_path: Path) -> None:
    put_sdist(tmp_path)
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "old.cpp").touch()
    (folder / ".unpacked").write_text("another hash")
    unpack(tmp_path / "tiny_source-1.0.tar.gz", folder)
    assert not (folder / "old.cpp").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("source")] == ["source"]


def test_the_pins_are_whole() -> None:
    for name in ("llama-cpp-python", "pyinstaller"):
        assert len(sdist(name).sha256) == 64 and sdist(name).filename.endswith(f"-{sdist(name).version}.tar.gz")
