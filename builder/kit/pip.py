"""pip, asked for pinned files alone: each is compared with its SHA-256 before anything in it is run or installed."""

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from mkllm.builder.errors import MissingTool, ToolFailed, WrongHash
from mkllm.builder.process import run

OTHER_FILE = re.compile(r"^\s*(?P<name>\S+) from .*?^\s*Got\s+(?P<found>[0-9a-f]{64})", re.DOTALL | re.MULTILINE)


def requirement(name: str, version: str, hashes: Iterable[str]) -> str:
    """A line of a requirements file: this version, in a file with one of these SHA-256."""
    return " ".join([f"{name}=={version}", *(f"--hash=sha256:{value}" for value in hashes)])


def pip(command: Sequence[str | Path], wanted: Iterable[str], log: IO[str] | None = None) -> None:
    """Run pip's `download` or `install`, with options, on requirements; nothing that they need comes with them.

    Raises WrongHash when a file that arrives is not a pinned one, MissingTool without pip or without the backend that
    a source names, ToolFailed when pip fails otherwise.
    """
    lines: list[str] = []
    with tempfile.NamedTemporaryFile("w", prefix="mkllm-", suffix=".txt") as file:
        file.writelines(f"{line}\n" for line in wanted)
        file.flush()
        words = [sys.executable, "-m", "pip", *command, "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        try:
            run([*words, "--requirement", file.name], log=log, on_line=lines.append)
        except ToolFailed as failure:
            raise _translated("\n".join(lines)) or failure from None


def _translated(text: str) -> Exception | None:
    if "BackendUnavailable" in text or "Cannot import" in text:
        return MissingTool("a package that a kit is built with is missing: run `pip install 'mkllm[kit]'`")
    if "No module named pip" in text:
        return MissingTool("pip is missing in this Python: run `python -m ensurepip`")
    if "DO NOT MATCH THE HASHES" in text and (other := OTHER_FILE.search(text)):
        return WrongHash(
            f"{other['name']!r} arrived with the SHA-256 {other['found']}, which is not a pinned one: the index or a "
            "proxy gave another file; try another index (PIP_INDEX_URL)"
        )
    return None
