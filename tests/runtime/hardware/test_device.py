"""Which machines are the device that a file was made for."""

from dataclasses import replace

import pytest

from mkllm.runtime.artifact.manifest import Device
from mkllm.runtime.hardware.device import is_device
from mkllm.runtime.hardware.probe import Facts

GIB = 1 << 30
PI5 = Device("pi5-4gb", "aarch64", 4, 4 * GIB, 4096, "q8_0", 4, None)
HERE = Facts(machine="aarch64", cpus_online=4, memory_total=4 * GIB - 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"machine": "x86_64"}, False),
        ({"cpus_online": 8}, False),
        ({"memory_total": 8 * GIB}, False),
        ({"memory_total": 8 * GIB, "memory_limit": 3 * GIB}, True),
        ({"memory_total": 2 * GIB}, True),
        ({"memory_total": 0}, False),
    ],
)
def test_a_pi(changes, expected):
    assert is_device(PI5, replace(HERE, **changes)) is expected


def test_any_machine_of_that_memory():
    generic = Device("generic-2gb", None, None, 2 * GIB, 2048, "q8_0", None, 256)
    assert is_device(generic, Facts(machine="x86_64", cpus_online=2, memory_total=2 * GIB))
    assert not is_device(generic, HERE)
