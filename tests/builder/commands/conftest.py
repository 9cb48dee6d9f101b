"""The program, in a folder of its own."""

from functools import partial
from pathlib import Path

import pytest

from .program import Run, run


@pytest.fixture
def folder(tmp_path: Path, small_gguf: Path) -> Path:
    """Holds model.gguf."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(small_gguf.read_bytes())
    return folder


@pytest.fixture
def mkllm(kit_cache: Path, folder: Path) -> Run:
    """Runs `mkllm` in the folder."""
    return partial(run, folder)
