"""The runtime part for macOS, on whatever system: what it runs, in which order, and what it keeps of what comes."""

import platform
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import MissingTool
from mkllm.builder.kit import pip, python, runtime_macos, runtime_pkg
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.pkg import BINARY, MODULES, Entry, Pkg, read_pkg, write_pkg
from mkllm.builder.kit.target import TARGETS

TARGET = TARGETS["macos-arm64"]
ENTRIES = (
    Entry("PYZ.pyz", MODULES, b"modules"),
    Entry("click-8.5.1.dist-info/RECORD", "x", b"of this Mac"),
    Entry("click-8.5.1.dist-info/METADATA", "x", b"Version: 8.5.1"),
    Entry("Python", BINARY, b"signed library"),
)


class Told:
    """Programs that note what they are told; PyInstaller leaves a PKG, pip what it installs."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.wanted: list[str] = []

    def run(self, words: Sequence[str | Path], **_: Any) -> str:
        command = [str(word) for word in words]
        self.commands.append(command)
        if "PyInstaller" in command:
            pkg = Path(command[command.index("--workpath") + 1]) / "mkllm" / "runtime.pkg"
            pkg.parent.mkdir(parents=True)
            write_pkg(Pkg(ENTRIES, 311, "Python"), pkg, deflate=False)
        return ""

    def pip(self, command: Sequence[str | Path], wanted: list[str], log: Any) -> None:
        self.commands.append(["pip", *map(str, command)])
        self.wanted = list(wanted)
        packages = Path(command[list(command).index("--target") + 1])
        for name in pins()["runtime"]:
            info = packages / f"{name}-1.dist-info"
            info.mkdir(parents=True)
            (info / "LICENSE").write_text(f"licence of {name}")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """As on a Mac with the pinned Python."""
    told = Told()
    (tmp_path / "stdlib").mkdir()
    (tmp_path / "stdlib" / "LICENSE.txt").write_text("licence of Python")
    monkeypatch.setattr(platform, "python_version", lambda: f"{python.short_version()}.9")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    for module in (runtime_macos, runtime_pkg):
        monkeypatch.setattr(module, "run", told.run)
    monkeypatch.setattr(runtime_pkg, "pip", told.pip)
    return told


def test_what_it_runs(told: Told, tmp_path: Path, silent_report: Any) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    runtime_macos.part(TARGET).build(work, out, silent_report)
    environment = work / "environment"
    venv, install, freeze = told.commands
    assert venv == [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    assert install[:2] == ["pip", "install"] and install[install.index("--platform") + 1] == "macosx_13_0_arm64"
    assert install[install.index("--python-version") + 1] == python.short_version()
    assert freeze[:3] == [f"{environment}/bin/python{python.short_version()}", "-m", "PyInstaller"]
    assert freeze[-1].endswith("mkllm.spec")
    assert (runtime_pkg.site_packages(environment) / "mkllm" / "runtime" / "cli.py").is_file()
    names = [entry.name for entry in read_pkg(out / "runtime.pkg").entries]
    assert names == ["click-8.5.1.dist-info/METADATA", "Python", "PYZ.pyz"]
    texts = {path.name: path.read_text() for path in (out / "licenses").iterdir()}
    assert texts["python.txt"] == "licence of Python" and texts["click.txt"] == "licence of click"


def test_what_it_installs_is_pinned_for_macos(told: Told, tmp_path: Path, silent_report: Any) -> None:
    for name in ("work", "out"):
        (tmp_path / name).mkdir()
    runtime_macos.part(TARGET).build(tmp_path / "work", tmp_path / "out", silent_report)
    assert all("--hash=sha256:" in line for line in told.wanted)
    text = (Path(pip.__file__).parent / "pins.toml").read_text()
    compiled = ("aiohttp", "frozenlist", "multidict", "propcache", "psutil", "pyinstaller", "wcwidth", "yarl")
    tables = {table.partition(" = [")[0]: table for table in text.partition("[wheels]\n")[2].split("]\n")}
    assert [name for name in compiled if "macosx_" not in tables[name]] == []


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.1")
    with pytest.raises(MissingTool, match="^the kit for 'macos-arm64' is built with Python 3.11, this is 3.14.1:"):
        runtime_macos.part(TARGET)


def test_key_changes_with_the_python_of_the_mac(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    one = runtime_macos.part(TARGET)
    assert one.key == runtime_macos.part(TARGET).key and one.target == "macos-arm64"
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.10")
    assert runtime_macos.part(TARGET).key != one.key
