"""Draws the project's icon, a speech balloon in a file's outline, into mkllm.ico; run it again after a change here.

python -m mkllm.builder.kit.draw_icon builder/kit/mkllm.ico
"""

import struct
import sys
import zlib
from pathlib import Path

SIZES = (16, 24, 32, 48, 64, 256)
SAMPLES = 4  # of a pixel's edge
PAPER, INK, CLEAR = (0x2B, 0x59, 0xC3, 255), (0xFF, 0xFF, 0xFF, 255), (0, 0, 0, 0)
Colour = tuple[int, int, int, int]


def colour(x: float, y: float) -> Colour:
    """Of a point, where the picture goes from 0 to 1: a sheet with a cut corner, a balloon, three dots."""
    if not (0.12 <= x <= 0.88 and 0.04 <= y <= 0.96) or x - y > 0.60:
        return CLEAR
    if any((x - centre) ** 2 + (y - 0.50) ** 2 < 0.045**2 for centre in (0.36, 0.50, 0.64)):
        return PAPER
    in_balloon = ((x - 0.50) / 0.28) ** 2 + ((y - 0.50) / 0.19) ** 2 < 1
    in_tail = 0.34 <= x <= 0.46 and 0.62 <= y <= 0.82 and y - 0.62 <= (0.46 - x) * 1.9
    return INK if in_balloon or in_tail else PAPER


def pixel(x: int, y: int, size: int) -> Colour:
    """The mean of its samples, those outside the sheet counting for its transparency alone."""
    step = 1 / (size * SAMPLES)
    places = [(i + 0.5) * step for i in range(SAMPLES)]
    found = [colour(x / size + dx, y / size + dy) for dx in places for dy in places]
    solid = [one for one in found if one[3]]
    if not solid:
        return CLEAR
    red, green, blue = (sum(one[i] for one in solid) // len(solid) for i in range(3))
    return red, green, blue, 255 * len(solid) // len(found)


def png(size: int) -> bytes:
    """The picture as a PNG file."""
    rows = b"".join(b"\0" + bytes(v for x in range(size) for v in pixel(x, y, size)) for y in range(size))
    head = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def ico() -> bytes:
    """All sizes in one file."""
    images = [png(size) for size in SIZES]
    offset = 6 + 16 * len(SIZES)
    table = struct.pack("<HHH", 0, 1, len(SIZES))
    for size, image in zip(SIZES, images, strict=True):
        table += struct.pack("<BBBBHHII", size % 256, size % 256, 0, 0, 1, 32, len(image), offset)
        offset += len(image)
    return table + b"".join(images)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(ico())
