"""Sizes as users write them."""

import pytest

from mkllm.builder.size import bytes_of


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4 * 10**9), ("4 gb", 4 * 10**9), ("4GiB", 4 << 30), ("3.9GiB", int(3.9 * (1 << 30))), ("123", 123),
        ("5m", 5_000_000), ("2KiB", 2048), ("1.5kB", 1500), ("1TB", 10**12), ("7B", 7), ("2Gi", 2 << 30),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "GB", "4XB", "-4GB", "4,5GB", "0x10", "4 G B", "nan", "6iB", "²", "1e3"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        bytes_of(text)


@pytest.mark.parametrize("text", ["9" * 30, "9" * 5000, "9" * 5000 + ".5GB", "9999999999TB", "9999999999.5TiB"])
def test_more_than_anything_has(text: str) -> None:
    with pytest.raises(ValueError):
        bytes_of(text)
