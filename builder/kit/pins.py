"""The pinned versions and hashes of pins.toml; decides nothing."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Sdist:
    """A source distribution on PyPI, by name, version and SHA-256 of its file."""

    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """Its file name, in the normalised form of PEP 625."""
        return f"{self.name.replace('-', '_')}-{self.version}.tar.gz"


@functools.cache
def pins() -> dict[str, Any]:
    """pins.toml, parsed."""
    text = resources.files("mkllm.builder.kit").joinpath("pins.toml").read_text("utf-8")
    return tomllib.loads(text)


def sdist(name: str) -> Sdist:
    """The pinned sdist of that name."""
    entry = pins()["sdist"][name]
    return Sdist(name, entry["version"], entry["sha256"])


def wheel_versions(table: Mapping[str, Any]) -> dict[str, str]:
    """Versions by name of all packages whose wheels are pinned, for whatever target."""
    return {**frozen_versions(table), **table["windows"]["runtime"]}


def frozen_versions(table: Mapping[str, Any]) -> dict[str, str]:
    """Versions by name of the packages that are frozen into artifacts and of those that freeze them."""
    return {**table["runtime"], **table["freezer"], "pyinstaller": table["sdist"]["pyinstaller"]["version"]}
