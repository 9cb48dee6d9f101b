"""What macOS's own programs say of the machine: the frozen Python has no ctypes to ask the system itself."""

import re
import subprocess
import sys
from collections.abc import Mapping

assert sys.platform != "win32"

SYSCTL, VM_STAT = "/usr/sbin/sysctl", "/usr/bin/vm_stat"
SECONDS = 5.0
NAMES = (
    "machdep.cpu.brand_string",
    "hw.logicalcpu",
    "hw.activecpu",
    "hw.physicalcpu",
    "hw.nperflevels",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel0.l1dcachesize",
    "hw.perflevel0.l2cachesize",
    "hw.memsize",
    "hw.optional.arm.FEAT_DotProd",
    "hw.optional.arm.FEAT_FP16",
    "hw.optional.arm.FEAT_BF16",
    "hw.optional.arm.FEAT_I8MM",
    "hw.optional.arm.FEAT_SME",
)
PAGE = re.compile(r"page size of (\d+) bytes")
# Pages that nobody uses, or that are kept because they might be.
SPARE = ("Pages free", "Pages inactive", "Pages speculative")


def values() -> Mapping[str, str]:
    """Those of NAMES that this system knows. Raises OSError or ValueError."""
    found = parse_values(_said(SYSCTL, *NAMES))
    if not found:
        raise ValueError(f"{SYSCTL} says nothing")
    return found


def free_memory() -> int:
    """Bytes. Raises OSError or ValueError."""
    return parse_free(_said(VM_STAT))


def parse_values(text: str) -> Mapping[str, str]:
    """Of lines such as `hw.memsize: 17179869184`; complaints about names are on standard error."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon and name in NAMES}


def parse_free(text: str) -> int:
    """Of what vm_stat prints. Raises ValueError."""
    page = PAGE.search(text)
    counts = {name: value.strip(" .") for name, _, value in (line.partition(":") for line in text.splitlines())}
    if not page or not all(counts.get(name, "").isdigit() for name in SPARE):
        raise ValueError(f"{VM_STAT} does not say how many pages are free")
    return int(page[1]) * sum(int(counts[name]) for name in SPARE)


def _said(*words: str) -> str:
    """A status is no failure: sysctl ends with one for a name that it does not know."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise OSError(f"{words[0]} did not answer within {SECONDS:.0f} s") from None
    return done.stdout.decode("utf-8", "replace")
