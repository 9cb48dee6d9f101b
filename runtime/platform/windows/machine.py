"""What Windows knows of the machine; each function raises OSError or ValueError where it does not."""

import ctypes
import os
import sys
import winreg
from ctypes import Structure, c_uint32, c_uint64

assert sys.platform == "win32"

from mkllm.runtime.platform.windows import calls
from mkllm.runtime.platform.windows.topology import PROCESSORS, Topology, parse

PROCESSOR_KEY = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
MACHINES = {"AMD64": "x86_64", "ARM64": "aarch64"}
EVERYTHING = 0xFFFF  # RelationAll, and ALL_PROCESSOR_GROUPS


class _Memory(Structure):
    """MEMORYSTATUSEX."""

    _fields_ = [
        ("length", c_uint32),
        ("load", c_uint32),
        ("total", c_uint64),
        ("available", c_uint64),
        ("total_commit", c_uint64),
        ("available_commit", c_uint64),
        ("total_address", c_uint64),
        ("available_address", c_uint64),
        ("extended", c_uint64),
    ]


def machine() -> str:
    """`x86_64` or `aarch64`, as this program runs."""
    name = os.environ.get("PROCESSOR_ARCHITECTURE", "unknown")
    return MACHINES.get(name, name)


def processor() -> tuple[str, str]:
    """Who made it, and what it is called."""
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, PROCESSOR_KEY) as key:
        names = [winreg.QueryValueEx(key, name)[0] for name in ("VendorIdentifier", "ProcessorNameString")]
    vendor, model = (" ".join(str(name).split()) for name in names)
    return vendor, model


def memory() -> tuple[int, int]:
    """Bytes of memory, and those of them that are free."""
    found = _Memory(length=ctypes.sizeof(_Memory))
    calls.expect(calls.GlobalMemoryStatusEx(ctypes.byref(found)))
    return int(found.total), int(found.available)


def online() -> int:
    """Processors of the whole machine."""
    count = calls.GetActiveProcessorCount(EVERYTHING)
    calls.expect(count)
    return int(count)


def allowed() -> PROCESSORS | None:
    """Those that this process may use; None: all, of a machine that has several groups of them."""
    process, system = ctypes.c_size_t(), ctypes.c_size_t()
    own = calls.GetCurrentProcess()
    calls.expect(calls.GetProcessAffinityMask(own, ctypes.byref(process), ctypes.byref(system)))
    if process.value == 0 or system.value.bit_count() < online():
        return None
    return frozenset((0, bit) for bit in range(64) if process.value >> bit & 1)


def topology() -> Topology:
    """Cores, caches and nodes."""
    length = ctypes.c_ulong(0)
    calls.GetLogicalProcessorInformationEx(EVERYTHING, None, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    calls.expect(length.value)
    calls.expect(calls.GetLogicalProcessorInformationEx(EVERYTHING, buffer, ctypes.byref(length)))
    return parse(buffer.raw[: length.value])
