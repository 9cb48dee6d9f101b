"""The halves of runtime/platform: what is taken from one is in all, and nobody else asks which system it is."""

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


def taken(name):
    """The names that a module takes on each system, and from which folder; one that asks of Windows alone has on macOS
    what it has on Linux."""
    tree = ast.parse((FOLDER / name).read_text("utf-8"))
    [choice] = [node for node in tree.body if isinstance(node, ast.If)]
    asked = [ast.unparse(choice.test)]
    branches = {"win32": choice.body}
    if len(choice.orelse) == 1 and isinstance(second := choice.orelse[0], ast.If):
        asked.append(ast.unparse(second.test))
        branches |= {"darwin": second.body, "linux": second.orelse}
    else:
        branches |= {"darwin": choice.orelse, "linux": choice.orelse}
    assert asked == ["sys.platform == 'win32'", "sys.platform == 'darwin'"][: len(asked)]
    return {
        system: {alias.name: node.module.split(".")[-2] for node in nodes for alias in node.names}
        for system, nodes in branches.items()
    }


def functions(half, name):
    tree = ast.parse((FOLDER / half / name).read_text("utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {one.name: [argument.arg for argument in one.args.args] for one in found}


@pytest.mark.parametrize("name", FACADES)
def test_every_system_has_what_is_taken(name):
    found = taken(name)
    assert found["win32"].keys() == found["darwin"].keys() == found["linux"].keys() != set()
    assert set(found["win32"].values()) == {"windows"} and set(found["linux"].values()) == {"posix"}
    for names in found.values():
        for one, half in names.items():
            assert one in defined(FOLDER / half / name)


@pytest.mark.parametrize("name", FACADES)
def test_halves_are_called_alike(name):
    """The same parameters, in the same order."""
    found = taken(name)
    for one, half in found["linux"].items():
        wanted = functions(half, name).get(one)
        for other in ("win32", "darwin"):
            if one != "is_connected" and wanted is not None:  # of that one the second is for tests
                assert functions(found[other][one], name)[one] == wanted, (other, one)


@pytest.mark.parametrize("name", FACADES)
def test_nothing_of_macos_is_left_out(name):
    """What a module of its folder defines under a name that is taken, is what is taken there."""
    found = taken(name)["darwin"]
    own = functions("macos", name).keys() if (FOLDER / "macos" / name).exists() else set()
    assert {one for one, half in found.items() if half == "macos"} == own & found.keys()


def test_nobody_else_asks_which_system_it_is():
    asking = {
        str(path.relative_to(FOLDER.parent))
        for path in FOLDER.parent.rglob("*.py")
        if FOLDER not in path.parents and ("sys.platform" in (text := path.read_text("utf-8")) or "os.name" in text)
    }
    assert asking == ASKING
