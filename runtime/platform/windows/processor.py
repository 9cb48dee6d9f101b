"""What an x86 processor says of itself (CPUID), asked by a few bytes of code, since Windows tells only a part of it.

The answer has the form of MKLLM_CPUID (spec/launch.md, 1.7). Where no program may make code at run time, Windows's part
has to do.
"""

import ctypes
import sys
from collections.abc import Sequence

assert sys.platform == "win32"

from mkllm.runtime.platform.windows import calls

RESERVE_AND_COMMIT, RELEASE = 0x3000, 0x8000
READ_WRITE, EXECUTE = 0x04, 0x20
PAGE = 4096
OSXSAVE = 1 << 27  # of 1.ecx: XCR0 can be read
# void ask(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
CPUID = bytes.fromhex(
    "53"  # push rbx
    "89c8"  # mov eax, ecx
    "89d1"  # mov ecx, edx
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
# uint32_t xcr0(void)
XGETBV = bytes.fromhex("31c90f01d0c3")  # xor ecx, ecx; xgetbv; ret
# IsProcessorFeaturePresent's numbers of what Windows tells: 1.ecx's bit, and 7.ebx's
TOLD_1_ECX = {38: 20, 39: 28}  # SSE4.2, AVX
TOLD_7_EBX = {40: 5}  # AVX2
AVX_SAVED = 0x7


def registers() -> str:
    """`1.ecx,7.ebx,7.ecx,7.edx,7.1.eax,xcr0` in hexadecimal."""
    try:
        found = _asked()
    except OSError:
        found = _told()
    return ",".join(f"{number:x}" for number in found)


def _asked() -> Sequence[int]:
    """Raises OSError where code made at run time may not be executed."""
    memory = calls.VirtualAlloc(None, PAGE, RESERVE_AND_COMMIT, READ_WRITE)
    calls.expect(memory)
    try:
        second = len(CPUID) + -len(CPUID) % 16
        ctypes.memmove(memory, CPUID.ljust(second, b"\xcc") + XGETBV, second + len(XGETBV))
        calls.expect(calls.VirtualProtect(memory, PAGE, EXECUTE, ctypes.byref(ctypes.c_ulong())))
        ask = ctypes.WINFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(memory)
        saved = ctypes.WINFUNCTYPE(ctypes.c_uint32)(memory + second)
        return _numbers(ask, saved)
    finally:
        calls.VirtualFree(memory, 0, RELEASE)


def _numbers(ask: "ctypes._CFunctionType", saved: "ctypes._CFunctionType") -> Sequence[int]:
    def leaf(number: int, sub: int = 0) -> Sequence[int]:
        out = (ctypes.c_uint32 * 4)()
        ask(number, sub, ctypes.addressof(out))
        return list(out)

    last = leaf(0)[0]
    features = leaf(1)[2]
    seven = leaf(7) if last >= 7 else [0, 0, 0, 0]
    more = leaf(7, 1)[0] if seven[0] >= 1 else 0
    return features, seven[1], seven[2], seven[3], more, saved() if features & OSXSAVE else 0


def _told() -> Sequence[int]:
    """As much as Windows tells."""
    present = calls.kernel32.IsProcessorFeaturePresent
    first = sum(1 << bit for number, bit in TOLD_1_ECX.items() if present(number))
    seventh = sum(1 << bit for number, bit in TOLD_7_EBX.items() if present(number))
    return first, seventh, 0, 0, 0, AVX_SAVED
