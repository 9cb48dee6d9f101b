"""What the kit weighs, without GPUs and model, and what it needs of a system."""

import subprocess
from pathlib import Path

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit

MOST_BYTES, MOST_BYTES_OF_WHEEL = 40_000_000, 25_000_000


@pytest.fixture(scope="module")
def kit() -> Kit:
    found = find_kit("linux-x86_64")
    if len(found.backends) != 14 or any(not name.startswith("cpu-") for name, _ in found.backends):
        pytest.skip("the kit in use is not the one with all CPU variants and nothing else")
    return found


def test_size(kit: Kit) -> None:
    assert sum(path.stat().st_size for path in kit.path.rglob("*") if path.is_file()) <= MOST_BYTES


def test_size_as_a_wheel(kit: Kit, mkllm: Path, tmp_path: Path) -> None:
    subprocess.run([mkllm, "kit", "build", "--wheel", tmp_path], check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    assert wheel.stat().st_size <= MOST_BYTES_OF_WHEEL


def test_runs_on_glibc_2_17(kit: Kit) -> None:
    """By what its files say; test_roots.py tries it."""
    assert [int(part) for part in kit.glibc.split(".")] <= [2, 17]
