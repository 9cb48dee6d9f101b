"""Cores, caches and nodes out of what GetLogicalProcessorInformationEx writes; calls nothing."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CORE, NODE, CACHE = 0, 1, 2
INSTRUCTIONS = 1
HEAD = struct.Struct("<II")
AFFINITY = struct.Struct("<QH6x")
PROCESSORS = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Core:
    """`processors`: group and number of each of its threads; of a higher `speed` class are faster cores."""

    processors: PROCESSORS
    speed: int


@dataclass(frozen=True)
class Cache:
    """One that holds data; `size` in bytes."""

    processors: PROCESSORS
    level: int
    size: int


@dataclass(frozen=True)
class Topology:
    cores: Sequence[Core]
    caches: Sequence[Cache]
    nodes: int


def parse(data: bytes) -> Topology:
    """Raises ValueError for what is no such list."""
    cores, caches, nodes = [], [], 0
    try:
        for kind, record in _records(data):
            if kind == CORE:
                cores.append(Core(_processors(record, 30), record[9]))
            elif kind == NODE:
                nodes += 1
            elif kind == CACHE and struct.unpack_from("<I", record, 16)[0] != INSTRUCTIONS:
                caches.append(Cache(_processors(record, 38), record[8], struct.unpack_from("<I", record, 12)[0]))
    except (struct.error, IndexError):
        raise ValueError("the list of processors is cut") from None
    return Topology(cores, caches, nodes)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, size = HEAD.unpack_from(data, at)
        if size < HEAD.size:
            raise ValueError("the list of processors is damaged")
        yield kind, data[at : at + size]
        at += size


def _processors(record: bytes, at: int) -> PROCESSORS:
    """Of the groups whose number is at `at`, their masks behind it; older systems know one group, and say 0."""
    groups = struct.unpack_from("<H", record, at)[0] or 1
    found = [AFFINITY.unpack_from(record, at + 2 + AFFINITY.size * index) for index in range(groups)]
    return frozenset((group, bit) for mask, group in found for bit in range(64) if mask >> bit & 1)
