"""Licence texts out of files and comments."""

from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.native_licenses import license_text

BLOCKS = "/* first */\nint a;\n/*\nThis is the licence.\n  Use it.\n*/\nint b;\n"
LINES = "// Copyright 2024 Somebody\n//\n// Permission is granted.\n\n// another comment\nint a;\n"


def test_whole_file(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT\n")
    assert license_text(tmp_path / "LICENSE", None) == "MIT\n"


def test_block_comment(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text(BLOCKS)
    assert license_text(tmp_path / "a.h", "the licence") == "This is the licence.\n  Use it.\n"


def test_line_comments(tmp_path: Path) -> None:
    (tmp_path / "a.cpp").write_text(LINES)
    assert license_text(tmp_path / "a.cpp", "Somebody") == " Copyright 2024 Somebody\n\n Permission is granted.\n"


def test_marker_that_went_away(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text(BLOCKS)
    with pytest.raises(ToolFailed, match="'a.h' holds no comment with 'MIT'"):
        license_text(tmp_path / "a.h", "MIT")


def test_file_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="cannot be read"):
        license_text(tmp_path / "LICENSE", None)
