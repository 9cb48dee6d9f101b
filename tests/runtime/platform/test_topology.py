"""Cores, caches and nodes as GetLogicalProcessorInformationEx lists them."""

import struct

import pytest

from mkllm.runtime.platform.windows.topology import Cache, Core, parse

CORE, NODE, CACHE, GROUP = 0, 1, 2, 4


def record(kind, body):
    return struct.pack("<II", kind, 8 + len(body)) + body


def affinity(mask, group=0):
    return struct.pack("<QH6x", mask, group)


def core(mask, speed, group=0):
    return record(CORE, struct.pack("<BB20xH", 1, speed, 1) + affinity(mask, group))


def cache(level, size, kind, mask):
    return record(CACHE, struct.pack("<BBHII18xH", level, 8, 64, size, kind, 1) + affinity(mask))


def node(mask, groups):
    return record(NODE, struct.pack("<I18xH", 0, groups) + affinity(mask))


def test_a_hybrid_machine():
    data = core(0b0011, 1) + core(0b1100, 1) + core(0b10000, 0) + core(0b100000, 0)
    data += cache(1, 32 << 10, 1, 0b11) + cache(1, 48 << 10, 2, 0b11) + cache(3, 12 << 20, 0, 0b111111)
    data += record(GROUP, bytes(40)) + node(0b111111, 0)  # before Windows 11 a node has no number of groups
    found = parse(data)
    assert [one.speed for one in found.cores] == [1, 1, 0, 0] and found.nodes == 1
    assert found.cores[0] == Core(frozenset({(0, 0), (0, 1)}), 1)
    everybody = frozenset((0, number) for number in range(6))
    assert found.caches == [Cache(frozenset({(0, 0), (0, 1)}), 1, 48 << 10), Cache(everybody, 3, 12 << 20)]


def test_processors_of_another_group():
    assert parse(core(1 << 63, 0, group=1)).cores == [Core(frozenset({(1, 63)}), 0)]


@pytest.mark.parametrize("cut", [1, 7, 20, 40])
def test_a_list_that_is_cut(cut):
    with pytest.raises(ValueError, match="is cut"):
        parse(core(1, 0)[:cut])


def test_a_list_that_does_not_end():
    with pytest.raises(ValueError, match="is damaged"):
        parse(bytes(16))
