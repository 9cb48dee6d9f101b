"""The version of mkllm: of the installed package, or of the checkout it runs from."""

import functools
import tomllib
from importlib import metadata
from pathlib import Path


@functools.cache
def version() -> str:
    """Such as `0.1.0`."""
    try:
        return metadata.version("mkllm")
    except metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text())["project"]["version"])
