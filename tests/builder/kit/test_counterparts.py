"""A runtime frozen on one system and made one for another, on environments of a few files."""

from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import python
from mkllm.builder.kit.counterparts import counterparts
from mkllm.builder.kit.pkg import BINARY, MODULES, Entry, Pkg
from mkllm.builder.kit.target import TARGETS, Target

HERE, THERE = TARGETS["linux-x86_64"], TARGETS["linux-aarch64"]
LIBRARY = python.library_name()


def environment(folder: Path, target: Target) -> Path:
    """A Python with a package that has a module in C with its system's name, and one without."""
    library = python.library_folder(folder)
    texts = {
        folder / "lib" / LIBRARY: f"Python for {target.name}",
        library / "os.py": "import sys\n",
        library / f"{python.sysconfig_name(target)}.py": f"build_time_vars = {target.triplet!r}\n",
        library / "site-packages/thing/__init__.py": "from thing import _fast\n",
        library / f"site-packages/thing/_fast.cpython-311-{target.triplet}.so": f"fast on {target.name}",
        library / "site-packages/thing/_any.abi3.so": f"any on {target.name}",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return environment(tmp_path / "ours", HERE)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return environment(tmp_path / "theirs", THERE)


def frozen() -> Pkg:
    names = (LIBRARY, f"thing/_fast.cpython-311-{HERE.triplet}.so", "thing/_any.abi3.so")
    binaries = [Entry(name, BINARY, b"x86") for name in names]
    return Pkg((*binaries, Entry("PYZ.pyz", MODULES, b"bytecode")), 311, LIBRARY)


def test_everything_compiled_is_the_other_systems(ours: Path, theirs: Path) -> None:
    made = counterparts(frozen(), HERE, ours, THERE, theirs)
    assert {entry.name: entry.data for entry in made.entries} == {
        LIBRARY: b"Python for linux-aarch64",
        "thing/_fast.cpython-311-aarch64-linux-gnu.so": b"fast on linux-aarch64",
        "thing/_any.abi3.so": b"any on linux-aarch64",
        "PYZ.pyz": b"bytecode",
    }


@pytest.mark.parametrize("name", ["_fast.cpython-311-aarch64-linux-gnu.so", "_any.abi3.so"])
def test_a_missing_counterpart_is_named(ours: Path, theirs: Path, name: str) -> None:
    (python.library_folder(theirs) / "site-packages" / "thing" / name).unlink()
    with pytest.raises(ToolFailed, match=f"has no counterpart for 'linux-aarch64': there is no 'thing/{name}' in"):
        counterparts(frozen(), HERE, ours, THERE, theirs)


@pytest.mark.parametrize("name", ["os.py", "site-packages/thing/__init__.py"])
def test_what_is_written_in_python_has_to_be_the_same(ours: Path, theirs: Path, name: str) -> None:
    (python.library_folder(theirs) / name).write_text("another = 1\n")
    with pytest.raises(ToolFailed, match=f"^'{name}' is not the same for 'linux-x86_64' and 'linux-aarch64'"):
        counterparts(frozen(), HERE, ours, THERE, theirs)


def test_a_module_that_only_one_of_them_has(ours: Path, theirs: Path) -> None:
    (python.library_folder(ours) / "site-packages" / "thing" / "more.py").write_text("more = 1\n")
    with pytest.raises(ToolFailed, match="'site-packages/thing/more.py' is not the same .* pin other versions"):
        counterparts(frozen(), HERE, ours, THERE, theirs)
