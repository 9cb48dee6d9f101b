"""Bindings that cannot be loaded say why."""

import os
from pathlib import Path

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.bindings import PRELOADED, load


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A folder with libraries that are none."""
    native = tmp_path / "members" / "native"
    native.mkdir(parents=True)
    for name in PRELOADED:
        (native / name).write_bytes(b"no library")
    return tmp_path


def test_damaged_libraries(kit: Path) -> None:
    with pytest.raises(NoKit, match=r"^the bindings of the kit '.*' cannot be loaded \(.*\): build the kit again$"):
        load(kit)


def test_a_noexec_file_system(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = os.ST_NOEXEC | os.ST_NODEV
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, flags, 255)))
    with pytest.raises(NoKit, match=r"nothing may be executed \(noexec\): set MKLLM_CACHE to a folder on another one"):
        load(kit)
