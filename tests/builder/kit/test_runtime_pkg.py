"""The runtime part's own steps; the frozen runtime itself is tried end to end."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed, WrongHash
from mkllm.builder.kit import python, runtime_pkg
from mkllm.builder.kit.part import Part, Report
from mkllm.builder.kit.pkg import read_pkg
from mkllm.builder.kit.runtime_licenses import write_licenses
from mkllm.builder.kit.target import builder


def test_loading_order() -> None:
    needed = {"liba": ("libb", "libc.so.6"), "libb": ("libd",), "libd": (), "libe": ("liba", "libd")}
    assert runtime_pkg.loading_order(needed) == ["libd", "libb", "liba", "libe"]


def test_libraries_that_need_one_another() -> None:
    with pytest.raises(ToolFailed, match="in a circle: a, b"):
        runtime_pkg.loading_order({"a": ("b",), "b": ("a",)})


def interpreter(*inputs: str) -> Part:
    return Part("python", dict.fromkeys(inputs, ""), lambda work, out, report: None, 1.0, builder().name)


def test_key_is_stable_and_depends_on_the_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = runtime_pkg.part(builder(), interpreter())
    assert (
        runtime_pkg.part(builder(), interpreter()).key
        == before.key
        != runtime_pkg.part(builder(), interpreter("another")).key
    )
    (tmp_path / "cli.py").write_text("def main(): ...\n")
    monkeypatch.setattr(runtime_pkg, "runtime_folder", lambda: tmp_path)
    assert runtime_pkg.part(builder(), interpreter()).key != before.key


def test_a_package_of_another_hash_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent_report: Report, put_wheel: Callable[[str], str]
) -> None:
    table = {"runtime": {"tiny": "1.0"}, "freezer": {}, "sdist": {"pyinstaller": {"version": "1.0"}}}
    found = put_wheel("pyinstaller")
    (tmp_path / "python" / "lib" / f"python{python.short_version()}" / "site-packages").mkdir(parents=True)
    hashes = {"tiny": [put_wheel("tiny")], "pyinstaller": ["0" * 64]}
    monkeypatch.setattr(runtime_pkg, "pins", lambda: {**table, "wheels": hashes})
    with pytest.raises(WrongHash, match=f"'pyinstaller==1.0' arrived with the SHA-256 {found}"):
        runtime_pkg.make_environment(builder(), tmp_path / "python", tmp_path / "environment", silent_report)
    packages = runtime_pkg.site_packages(tmp_path / "environment")
    assert list(packages.iterdir()) == []
    hashes["pyinstaller"] = [found]
    runtime_pkg.make_environment(builder(), tmp_path / "python", tmp_path / "environment", silent_report)
    assert {path.name for path in packages.iterdir()} >= {"tiny-1.0.dist-info", "pyinstaller-1.0.dist-info"}


def test_repacked(frozen: Path, tmp_path: Path) -> None:
    """The small program of these tests: what the entry must know is there, and nothing of this machine."""
    pkg = read_pkg(frozen)
    major, minor = map(int, runtime_pkg.glibc_of(frozen).split("."))
    assert major == 2 and minor >= 2
    assert pkg.python == sys.version_info.major * 100 + sys.version_info.minor
    libraries = runtime_pkg.libraries_of(pkg)
    assert [entry.name.split()[1] for entry in pkg.entries if "preload" in entry.name] == libraries != []
    assert pkg.library not in libraries and pkg.library in {entry.name for entry in pkg.entries}
    folder = str(frozen.parent).encode()
    assert not [entry.name for entry in pkg.entries if folder in entry.data]


def test_licences(tmp_path: Path) -> None:
    info = tmp_path / "thing-1.dist-info"
    (info / "licenses" / "deep").mkdir(parents=True)
    (info / "licenses" / "LICENSE.txt").write_text("one")
    (info / "licenses" / "deep" / "NOTICE").write_text("two")
    (tmp_path / "LICENSE.txt").write_text("Python's")
    (tmp_path / "LICENSE-zlib.txt").write_text("zlib's")
    write_licenses(tmp_path, tmp_path, tmp_path / "out", ["thing"])
    texts = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert texts == {"thing.txt": "one\n\ntwo", "python.txt": "Python's", "python-zlib.txt": "zlib's"}


def test_package_without_licence(tmp_path: Path) -> None:
    (tmp_path / "thing-1.dist-info").mkdir()
    for name in ("LICENSE.txt", "LICENSE-zlib.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ToolFailed, match="'thing' comes without a licence"):
        write_licenses(tmp_path, tmp_path, tmp_path / "out", ["thing"])
