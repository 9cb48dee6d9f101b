"""Sizes as users write them: `4GB`, `3.9GiB`, `1000000`."""

import re

UNITS = {"": 1, "B": 1}
UNITS |= {f"{letter}{end}": 1000**power for power, letter in enumerate("KMGT", 1) for end in ("", "B")}
UNITS |= {f"{letter}I{end}": 1024**power for power, letter in enumerate("KMGT", 1) for end in ("", "B")}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
MOST = 2**63 - 1  # bytes: what files, disks and memories can have


def bytes_of(text: str) -> int:
    """The number of bytes that it is. Raises ValueError for what is no size, or larger than anything."""
    match = SIZE.fullmatch(text.strip())
    if not match or match[2].upper() not in UNITS or float(match[1]) > MOST:
        raise ValueError(text)
    unit = UNITS[match[2].upper()]
    found = int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if found > MOST:
        raise ValueError(text)
    return found
