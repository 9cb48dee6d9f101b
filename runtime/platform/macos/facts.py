"""The facts of a Mac with a processor of Apple's; looks, decides nothing."""

import os
import sys
from collections.abc import Mapping

assert sys.platform != "win32"

from mkllm.runtime.hardware.probe import Facts, Looking
from mkllm.runtime.platform.macos import sysctl

# Features by Apple's names and, as the table of variants has them, by Linux's.
FEATURES = {"DotProd": "asimddp", "FP16": "asimdhp", "BF16": "bf16", "I8MM": "i8mm", "SME": "sme"}
CACHES = {"L1": "l1dcachesize", "L2": "l2cachesize"}
FAST = "hw.perflevel0."  # of the fastest kind of cores


def facts() -> Facts:
    """What cannot be seen is left at a safe value and named in `notes`."""
    look = Looking()
    nothing: Mapping[str, str] = {}
    values = look("processor", sysctl.values, nothing)
    number = {name: int(text) for name, text in values.items() if text.isdigit()}
    model = values.get("machdep.cpu.brand_string", "unknown")
    cpus = number.get("hw.logicalcpu") or os.cpu_count() or 1
    return Facts(
        machine=os.uname().machine,
        cpu_vendor=model.partition(" ")[0],
        cpu_model=model,
        cpu_flags=frozenset(ours for name, ours in FEATURES.items() if number.get(f"hw.optional.arm.FEAT_{name}")),
        cpus=cpus,
        cpus_online=number.get("hw.activecpu", 0),
        cores=number.get("hw.physicalcpu") or cpus,
        fast_cores=number.get(f"{FAST}physicalcpu") if number.get("hw.nperflevels", 1) > 1 else None,
        caches={level: size for level, name in CACHES.items() if (size := number.get(FAST + name))},
        memory_total=number.get("hw.memsize", 0),
        memory_available=look("memory", sysctl.free_memory, 0),
        notes=tuple(look.notes),
    )
