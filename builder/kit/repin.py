"""Writes the SHA-256 of the wheels that are frozen into artifacts into pins.toml, for the versions that it names.

`nox -s pins` runs it after a version was changed. It believes the index that pip is set up with; what it wrote is what
every kit is held to afterwards.
"""

import re
import sys
import tempfile
import tomllib
from pathlib import Path

from mkllm.builder.kit.pins import wheel_versions
from mkllm.builder.kit.runtime_pkg import for_python
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.process import run

TABLE = "[wheels]\n"


def repin(path: Path) -> None:
    """Write the table `[wheels]`, the last one of that file, anew."""
    text = path.read_text("utf-8")
    before, table, _ = text.partition(TABLE)
    assert table, f"{path} has no {TABLE.strip()}"
    versions = wheel_versions(tomllib.loads(text))
    with tempfile.TemporaryDirectory(prefix="mkllm-") as folder:
        _download(versions, Path(folder))
        path.write_text(before + TABLE + _lines(versions, sorted(Path(folder).iterdir())), "utf-8")


def _download(versions: dict[str, str], folder: Path) -> None:
    """Every wheel that pip may choose for a target: where a package has several, the order of platforms decides."""
    wanted = [f"{name}=={version}" for name, version in versions.items()]
    words: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    every = [target.platforms for target in TARGETS.values()]
    for platforms in [*every, *(platforms[::-1] for platforms in every)]:
        run([*words, "--only-binary", ":all:", *for_python(platforms), *wanted])


def _lines(versions: dict[str, str], wheels: list[Path]) -> str:
    lines = []
    for name in sorted(versions):
        own = [path for path in wheels if _normal(path.name.split("-")[0]) == _normal(name)]
        lines += [f"{name} = [", *(f'    "{sha256(path)}", # {_tags(path)}' for path in own), "]"]
    return "".join(f"{line}\n" for line in lines)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _tags(wheel: Path) -> str:
    return "-".join(wheel.stem.split("-")[-3:])


if __name__ == "__main__":
    repin(Path(sys.argv[1]))
