"""The table of devices that files are made for."""

import pytest

from mkllm.builder.devices import UnknownDevice, devices, find_device, usual

GIB = 1 << 30


def test_the_table_is_whole() -> None:
    for name, device in devices().items():
        assert device.name == name and device.source and 0 < device.system < device.memory
        assert device.context % 256 == 0
        if name.startswith("generic-"):
            assert (device.machine, device.target, device.cores, device.bandwidth) == (None, None, None, None)
        else:
            assert device.machine == "aarch64" and device.target == "linux-aarch64"
            assert device.cores and device.cpu and device.cpu.startswith(f"{device.cores} ") and device.bandwidth


def test_little_memory_is_saved() -> None:
    for device in devices().values():
        assert (device.cache_type == "q8_0") is (device.memory <= 4 * GIB)
        assert bool(device.batch) is (device.memory <= 2 * GIB)


def test_a_family_stands_for_its_usual_device() -> None:
    assert find_device("pi5") is find_device("PI5-4GB") is devices()["pi5-4gb"]
    assert find_device("jetson-orin").memory == 64 * GIB
    assert find_device("pi-zero-2").sentence == "a Raspberry Pi Zero 2 W with 512 MB"
    assert find_device("generic-2gb").sentence == "any machine with 2 GB"
    assert set(usual().values()) <= set(devices())


def test_a_row_may_differ_from_its_family() -> None:
    assert find_device("jetson-orin-nano-4gb").bandwidth == 34e9
    assert find_device("jetson-orin-nano-8gb").bandwidth == 68e9


@pytest.mark.parametrize(("name", "hint"), [("p5", "did you mean 'pi5'"), ("toaster-9", "`mkllm devices` lists them")])
def test_unknown_ones_are_quoted(name: str, hint: str) -> None:
    with pytest.raises(UnknownDevice, match=f"there is no device '{name}': .*{hint}"):
        find_device(name)
