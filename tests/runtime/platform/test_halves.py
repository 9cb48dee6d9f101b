"""The halves of runtime/platform: what is taken from one is in both, and nobody else asks which system it is."""

import ast
from pathlib import Path

import pytest

from mkllm.runtime import platform

FOLDER = Path(platform.__file__).parent
FACADES = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "__init__.py")
# The first sends its question to the half; the others name functions of Python's that are not there on Windows.
ASKING = {
    "hardware/probe.py",
    "artifact/copy.py",
    "artifact/writeback.py",
    "commands/service.py",
    "engine/modules.py",
    "front/manager.py",
}


def defined(path):
    """Names at the top of a module, those that it imports included."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            names |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name)} if target else set()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name) for alias in node.names}
    return names


def taken(path):
    """Names that a module takes from each half."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {node.module.split(".")[-2]: {alias.name for alias in node.names} for node in nodes}


@pytest.mark.parametrize("name", FACADES)
def test_both_halves_have_what_is_taken(name):
    names = taken(FOLDER / name)
    assert names["posix"] == names["windows"]
    for half in ("posix", "windows"):
        assert names[half] <= defined(FOLDER / half / name)


@pytest.mark.parametrize("name", FACADES)
def test_halves_are_called_alike(name):
    """The same parameters, in the same order."""

    def signatures(half):
        tree = ast.parse((FOLDER / half / name).read_text("utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        return {one.name: [argument.arg for argument in one.args.args] for one in functions}

    posix, windows = signatures("posix"), signatures("windows")
    shared = taken(FOLDER / name)["posix"] & posix.keys()
    assert shared <= windows.keys()
    for function in shared - {"is_connected"}:  # whose second one is for tests
        assert posix[function] == windows[function], function


def test_nobody_else_asks_which_system_it_is():
    asking = {
        str(path.relative_to(FOLDER.parent))
        for path in FOLDER.parent.rglob("*.py")
        if FOLDER not in path.parents and ("sys.platform" in (text := path.read_text("utf-8")) or "os.name" in text)
    }
    assert asking == ASKING
