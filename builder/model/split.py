"""GGUF models split into files `-00001-of-0000N.gguf`: finds the parts and makes one GGUF of them while it is read."""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from mkllm.builder.errors import ModelNotFound, UnusableModel
from mkllm.builder.model.cursor import U32, U64
from mkllm.builder.model.gguf import MAGIC, Gguf, Tensor, read_gguf
from mkllm.builder.model.weights import Span, Weights

NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
COUNT, NUMBER, TENSORS = "split.count", "split.no", "split.tensors.count"
SPLIT_KEYS = (COUNT, NUMBER, TENSORS)


def part_names(name: str) -> list[str]:
    """The names of all parts of which `name` is one, in order; `name` alone when it does not name a part."""
    match = NAME.fullmatch(name)
    if not match:
        return [name]
    count = int(match["count"])
    names = [f"{match['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    return names if name in names else [name]


def check_whole(text: str, name: str) -> None:
    """Raise ModelNotFound when the model `text`, that has a hash behind its address, is in parts, `name` being one."""
    if (count := len(part_names(name))) > 1:
        raise ModelNotFound(
            f"{text!r} is in {count} files, and #sha256=… behind an address is the hash of one: leave it out, or name "
            "another file"
        )


def read_parts(path: Path) -> list[Gguf]:
    """The headers of all files of a model of which `path` is one. Raises ModelNotFound, naming a missing part."""
    names = part_names(path.name)
    if len(names) == 1:
        return [_whole(read_gguf(path))]
    missing = [name for name in names if not os.path.exists(path.with_name(name))]
    if missing and os.path.exists(path):
        raise ModelNotFound(
            f"{str(path)!r} is one of {len(names)} parts, and {missing[0]!r} is not beside it: get it too"
        )
    parts = [read_gguf(path.with_name(name)) for name in names]
    _check(parts)
    return parts


def merged(parts: Sequence[Gguf]) -> Weights:
    """The bytes of one GGUF file with the content of all parts; a single file as it is."""
    if len(parts) == 1:
        return Weights((Span(parts[0].path, 0, parts[0].size, parts[0].stamp),))
    return Weights((*_header(parts), *_data(parts)))


def _whole(header: Gguf) -> Gguf:
    count = header.integer(COUNT) or 0
    if count > 1:
        number = (header.integer(NUMBER) or 0) + 1
        raise UnusableModel(
            f"{str(header.path)!r} is part {number} of a model in {count} parts: give it its name back, "
            f"which ends with '-{number:05}-of-{count:05}.gguf', beside the other parts"
        )
    return header


def _check(parts: Sequence[Gguf]) -> None:
    """The parts must say that they belong together."""
    for number, part in enumerate(parts):
        said = (part.integer(NUMBER), part.integer(COUNT))
        if said != (number, len(parts)):
            raise _mixed(part, f"it says that it is part {said[0]} (from 0) of {said[1]}")
    tensors = [tensor.name for part in parts for tensor in part.tensors]
    if parts[0].integer(TENSORS) != len(tensors) or len(set(tensors)) != len(tensors):
        raise _mixed(parts[0], f"its parts hold {len(tensors)} tensors, not {parts[0].integer(TENSORS)} different ones")


def _mixed(part: Gguf, why: str) -> UnusableModel:
    return UnusableModel(
        f"{str(part.path)!r} does not fit to the other parts of its model ({why}): get all parts again"
    )


def _header(parts: Sequence[Gguf]) -> Iterator[Span | bytes]:
    first = parts[0]
    kept = [key for name, key in first.keys.items() if name not in SPLIT_KEYS]
    tensors = _moved(parts)
    start = MAGIC + struct.pack("<IQQ", first.version, len(tensors), len(kept))
    infos = b"".join(info(tensor) for tensor in tensors)
    size = len(start) + sum(key.end - key.start for key in kept) + len(infos)
    yield start
    for key in kept:
        yield Span(first.path, key.start, key.end - key.start, first.stamp)
    yield infos + bytes(-size % first.alignment)


def _moved(parts: Sequence[Gguf]) -> list[Tensor]:
    """All tensors, at their offsets in the one data section."""
    moved, at = [], 0
    for part in parts:
        for tensor in part.tensors:
            moved.append(Tensor(tensor.name, tensor.shape, tensor.number, at))
            at += tensor.size + -tensor.size % parts[0].alignment
    return moved


def info(tensor: Tensor) -> bytes:
    """The description of a tensor in a header."""
    shape = b"".join(U64.pack(length) for length in tensor.shape)
    name = U64.pack(len(tensor.name)) + tensor.name
    return name + U32.pack(len(tensor.shape)) + shape + U32.pack(tensor.number) + U64.pack(tensor.offset)


def _data(parts: Sequence[Gguf]) -> Iterator[Span | bytes]:
    for part in parts:
        for tensor in part.tensors:
            yield Span(part.path, part.data + tensor.offset, tensor.size, part.stamp)
            yield bytes(-tensor.size % parts[0].alignment)
