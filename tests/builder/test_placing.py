"""Where weights go, by how large files may be; nothing of that size is written here."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import TooLarge
from mkllm.builder.model.weights import Span, Stamp, Weights
from mkllm.builder.placing import MARGIN, Limits, Split, division, growth, is_beside, room_in

WINDOWS, LINUX = "windows-x86_64", "linux-x86_64"
GIB4 = 4 << 30
KIT = 40_000_000
FAT32 = GIB4 - 1


@pytest.mark.parametrize(
    ("target", "weights", "limits", "beside"),
    [
        (WINDOWS, GIB4 - 1 - KIT - MARGIN, Limits(), False),
        (WINDOWS, GIB4 - KIT - MARGIN, Limits(), True),
        (WINDOWS, 4_110_000_000, Limits(), False),  # Mistral 7B in Q4_0
        (WINDOWS, 4_370_000_000, Limits(), True),  # in Q4_K_M
        (LINUX, 400 << 30, Limits(), False),
        (LINUX, 4_370_000_000, Limits(file=FAT32), True),
        (LINUX, 10, Limits("always"), True),
        (WINDOWS, 10, Limits("never"), False),
        (WINDOWS, 4_370_000_000, Limits(file=64 << 30), True),  # the smaller limit counts
    ],
)
def test_inside_or_beside(target: str, weights: int, limits: Limits, beside: bool) -> None:
    assert is_beside(target, KIT, weights, limits) is beside
    room = room_in(target, KIT, limits)
    if limits.split == "auto":
        assert (room is not None and weights > room) is beside


def test_what_cannot_be() -> None:
    with pytest.raises(TooLarge, match="one file for windows-x86_64 would take 4.41 GB, but windows-x86_64 starts no"):
        is_beside(WINDOWS, KIT, 4_370_000_000, Limits("never"))
    with pytest.raises(TooLarge, match="but --max-file-size allows 1.00 GB: leave out --split never"):
        is_beside(LINUX, KIT, 4_370_000_000, Limits("never", 10**9))
    for split in ("auto", "always", "never"):
        kind: Split = split  # type: ignore[assignment]
        with pytest.raises(TooLarge, match="takes 41.05 MB without a model, but --max-file-size allows 10.00 MB"):
            is_beside(LINUX, KIT, 5, Limits(kind, 10_000_000))


def sparse(path: Path, length: int) -> Weights:
    path.touch()
    os.truncate(path, length)
    return Weights((Span(path, 0, length, Stamp.of(path.stat())),))


def test_one_file_of_weights_while_it_may_be(tmp_path: Path) -> None:
    weights = sparse(tmp_path / "big", FAT32)
    assert len(division(weights, tmp_path / "big", Limits(file=FAT32), False).parts) == 1
    assert len(division(weights, tmp_path / "big", Limits(), False).parts) == 1
    with pytest.raises(TooLarge, match="prepacked weights have to lie in one file, these take more than 4.29 GB"):
        division(weights, tmp_path / "big", Limits(file=FAT32), True)


def test_several_files_of_a_model_of_5_gb(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> None:
    """Its weights are a hole."""
    from struct import pack

    rows, names = 1 << 20, [f"blk.{i}.w" for i in range(5)]
    size = 256 * rows * 4
    infos = b"".join(
        pack("<Q", len(name)) + name.encode() + pack("<IQQ", 2, 256, rows) + pack("<IQ", 0, i * size)
        for i, name in enumerate(names)
    )
    head = gguf_bytes(tensors={}).replace(b"GGUF" + pack("<IQ", 3, 0), b"GGUF" + pack("<IQ", 3, 5), 1) + infos
    head += bytes(-len(head) % 32)
    model = tmp_path / "big.gguf"
    model.write_bytes(head)
    os.truncate(model, len(head) + 5 * size)
    weights = Weights((Span(model, 0, len(head) + 5 * size, Stamp.of(model.stat())),))
    parts = division(weights, model, Limits(file=FAT32), False).parts
    assert [part.end - part.start for part in parts] == [3 * size, 2 * size]
    assert all(part.size <= FAT32 for part in parts)


def test_growth_counts_what_is_no_layers(gguf_bytes: Callable[..., bytes]) -> None:
    assert growth(Weights((gguf_bytes(),)), Path("m")) == 2 * 64 * 30 // 32 * 34 + MARGIN
