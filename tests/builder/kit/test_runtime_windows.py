"""The runtime for Windows: which modules are taken, and archives that PyInstaller's own reader reads."""

import importlib.util
import io
import json
import marshal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import CodeType

import pytest
from PyInstaller.loader.pyimod01_archive import PYZ_ITEM_MODULE, PYZ_ITEM_NSPKG, PYZ_ITEM_PKG, ZlibArchiveReader

from mkllm.builder.kit import compile_frozen, runtime_windows


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"NAME = {name!r}\n\n\ndef where():\n    raise RuntimeError(NAME)\n")


def test_modules(tmp_path: Path) -> None:
    put(tmp_path, "click/__init__.py", "click/core.py", "mkllm/runtime/__init__.py", "typing_extensions.py")
    put(tmp_path, "PyInstaller/compat.py", "prompt_toolkit/contrib/ssh.py", "prompt_toolkit/__init__.py")
    assert runtime_windows.modules(tmp_path) == {
        "click": tmp_path / "click/__init__.py",
        "click.core": tmp_path / "click/core.py",
        "mkllm": None,
        "mkllm.runtime": tmp_path / "mkllm/runtime/__init__.py",
        "prompt_toolkit": tmp_path / "prompt_toolkit/__init__.py",
        "typing_extensions": tmp_path / "typing_extensions.py",
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What the compiler makes of a few modules."""
    put(tmp_path, "a/__init__.py", "a/b.py", "c.py")
    (tmp_path / "out").mkdir()
    modules = {"a": "a/__init__.py", "a.b": "a/b.py", "n": None}
    wanted = {
        "modules": {name: path and str(tmp_path / path) for name, path in modules.items()},
        "base": {"c.pyc": str(tmp_path / "c.py")},
        "boot": {"start": str(tmp_path / "c.py")},
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    subprocess.run([sys.executable, "-I", compile_frozen.__file__, tmp_path / "wanted.json"], check=True)
    return tmp_path / "out"


def test_the_archive_of_modules(made: Path) -> None:
    reader = ZlibArchiveReader(str(made / "PYZ.pyz"), check_pymagic=True)
    kinds = {name: entry[0] for name, entry in reader.toc.items()}
    assert kinds == {"a": PYZ_ITEM_PKG, "a.b": PYZ_ITEM_MODULE, "n": PYZ_ITEM_NSPKG}
    code = reader.extract("a.b")
    assert isinstance(code, CodeType) and code.co_filename == "a/b.py"
    assert reader.extract("a").co_filename == "a/__init__.py"


def test_the_base_library(made: Path) -> None:
    data = (made / "base_library.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.date_time, entry.compress_type) == ("c.pyc", (1980, 1, 1, 0, 0, 0), 0)
        content = archive.read("c.pyc")
    assert content[:4] == importlib.util.MAGIC_NUMBER and marshal.loads(content[16:]).co_filename == "c.py"


def test_no_path_of_this_machine_is_in_them(made: Path) -> None:
    for path in made.iterdir():
        assert str(made.parent).encode() not in path.read_bytes()
    assert marshal.loads((made / "start.code").read_bytes()).co_filename == "start.py"
