"""A kit as a wheel: pip installs it, mkllm finds it, nothing is compiled, and the bytes are the same each time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mkllm.builder.kit.store import build_part, compose, find_kit
from mkllm.builder.kit.wheel import write_wheel

from .test_store import FACTS, Silent, writing


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    part = writing("a", [])
    kit = compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS)
    first = write_wheel(kit, "0.1.0", tmp_path / "one")
    assert first.read_bytes() == write_wheel(kit, "0.1.0", tmp_path / "two").read_bytes()
    return first


def test_installed_it_is_the_kit(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel], check=True
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "empty"))
    kit = find_kit("linux-x86_64")
    assert kit.path.is_relative_to(site)
    kit.verify()


def test_it_is_a_whole_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        record = archive.read("mkllm_kit_linux_x86_64-0.1.0.dist-info/RECORD").decode().splitlines()
    assert wheel.name == "mkllm_kit_linux_x86_64-0.1.0-py3-none-any.whl"
    assert sorted(line.split(",")[0] for line in record) == sorted(archive.namelist())
