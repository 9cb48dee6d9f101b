"""What Linux tells a program of an ARM processor, under the names that /proc/cpuinfo has for it; reads nothing.

The entry asks for it (AT_HWCAP and AT_HWCAP2 of the auxiliary vector; spec/launch.md, 1.7). The list in /proc/cpuinfo
is made of the same bits, but under an emulator of one program it is that of another machine. The numbers are those of
Linux's asm/hwcap.h.
"""

from collections.abc import Mapping

# Word and bit.
FEATURES: Mapping[str, tuple[int, int]] = {
    "asimdhp": (0, 10),
    "asimddp": (0, 20),
    "sve": (0, 22),
    "sve2": (1, 1),
    "i8mm": (1, 13),
    "sme": (1, 23),
}


def features(text: str) -> frozenset[str]:
    """Those of FEATURES that can be used, out of the variable's two hexadecimal numbers. Raises ValueError."""
    first, second = (int(number, 16) for number in text.split(","))
    return frozenset(name for name, (word, bit) in FEATURES.items() if (first, second)[word] >> bit & 1)
