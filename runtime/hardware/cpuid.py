"""What an x86 processor says of itself, under the names that Linux has for it; reads nothing, decides nothing.

The entry asks the processor (spec/launch.md, 1.7), because Python cannot. The numbers are those of Intel's manual,
volume 2 (CPUID) and volume 1, 13 (XCR0: which registers the operating system saves).
"""

from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "MKLLM_CPUID"
REGISTERS = ("1.ecx", "7.ebx", "7.ecx", "7.edx", "7.1.eax", "xcr0")
_AVX = 0x6
_AVX512 = _AVX | 0xE0
_AMX = 0x60000


@dataclass(frozen=True)
class Feature:
    """Bit `bit` of a register; usable when all bits of `saved` are set in XCR0."""

    register: str
    bit: int
    saved: int = 0


FEATURES: Mapping[str, Feature] = {
    "sse4_2": Feature("1.ecx", 20),
    "avx": Feature("1.ecx", 28, _AVX),
    "f16c": Feature("1.ecx", 29, _AVX),
    "fma": Feature("1.ecx", 12, _AVX),
    "bmi2": Feature("7.ebx", 8),
    "avx2": Feature("7.ebx", 5, _AVX),
    "avx512f": Feature("7.ebx", 16, _AVX512),
    "avx512dq": Feature("7.ebx", 17, _AVX512),
    "avx512cd": Feature("7.ebx", 28, _AVX512),
    "avx512bw": Feature("7.ebx", 30, _AVX512),
    "avx512vl": Feature("7.ebx", 31, _AVX512),
    "avx512vbmi": Feature("7.ecx", 1, _AVX512),
    "avx512_vnni": Feature("7.ecx", 11, _AVX512),
    "amx_tile": Feature("7.edx", 24, _AMX),
    "amx_int8": Feature("7.edx", 25, _AMX),
    "avx_vnni": Feature("7.1.eax", 4, _AVX),
    "avx512_bf16": Feature("7.1.eax", 5, _AVX512),
}


def features(text: str) -> frozenset[str]:
    """Those of FEATURES that can be used, out of the variable's hexadecimal numbers. Raises ValueError for others."""
    numbers = [int(number, 16) for number in text.split(",")]
    values = dict(zip(REGISTERS, numbers, strict=True))
    return frozenset(name for name, feature in FEATURES.items() if _usable(feature, values))


def _usable(feature: Feature, values: Mapping[str, int]) -> bool:
    saved = values["xcr0"] & feature.saved == feature.saved
    return bool(values[feature.register] >> feature.bit & 1) and saved
