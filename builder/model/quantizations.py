"""The quantizations of one model among the files of a repository, told by their names; asks nobody."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from mkllm.builder.model.quant import WORD, is_other
from mkllm.builder.model.split import NAME, part_names

SEPARATORS = re.compile(r"[-._ ]+")


@dataclass(frozen=True)
class Quantization:
    """A model file (of a split one the first part) and its size in bytes, all parts together."""

    file: str
    size: int


def quantizations(sizes: Mapping[str, int]) -> list[Quantization]:
    """All whole models in a repository, the largest first."""
    found = []
    for file in sizes:
        path = PurePosixPath(file)
        parts = [str(path.with_name(name)) for name in part_names(path.name)]
        if file == parts[0] and all(part in sizes for part in parts) and not is_other(file):
            found.append(Quantization(file, sum(sizes[part] for part in parts)))
    return sorted(found, key=lambda item: (-item.size, item.file))


def of_same_model(file: str, found: list[Quantization]) -> list[Quantization]:
    """Those that differ from `file` in nothing but the quantization, itself included."""
    return [item for item in found if _model(item.file) == _model(file)]


def models(found: list[Quantization]) -> set[str]:
    """What the names have in common that belong to one model."""
    return {_model(item.file) for item in found}


def _model(file: str) -> str:
    name = PurePosixPath(file).name
    match = NAME.fullmatch(name)
    stem = match["stem"] if match else name.removesuffix(".gguf")
    return SEPARATORS.sub("-", WORD.sub("*", stem)).casefold()
