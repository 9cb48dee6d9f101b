"""Room on a disk, before anything is written."""

import os
from pathlib import Path

import pytest

from mkllm.builder.errors import NoSpace
from mkllm.builder.space import check_free


def test_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def statvfs(path: Path) -> os.statvfs_result:
        asked.append(path)
        return os.statvfs_result((512, 4096, 100, 90, 10, 10, 10, 10, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    check_free(tmp_path / "none" / "yet", 40960, "it", "go")
    assert asked == [tmp_path]
    with pytest.raises(NoSpace, match="^no space for it: 40.96 kB needed, 40.96 kB free; free some, or go elsewhere$"):
        check_free(tmp_path, 40961, "it", "go elsewhere")
