"""Which type fits into how much memory, in sizes that can be reckoned by hand."""

import pytest

from mkllm.builder.errors import TooSmall
from mkllm.builder.quant.fit import NoRoom, Room, choose, parse_room
from mkllm.builder.quant.quantize import Plan
from mkllm.builder.quant.types import parse_type
from mkllm.runtime.artifact.footprint import PROGRAMS
from mkllm.runtime.artifact.manifest import WEIGHTS, Memory, Model

MIB, GIB = 1 << 20, 1 << 30
# 2 KiB a token in f16; buffers of 64 MiB that do not grow.
MEMORY = Memory(512, 512, 0, 0, 0, True, 64 * MIB, 0, 0)
MODEL = Model(WEIGHTS, "llama", 10**9, "F16", 32768, 16, 0, None, None, None, MEMORY)
PLANS = [Plan(parse_type(name), count * MIB, False) for name, count in (("Q8_0", 1000), ("Q4_K_M", 600), ("Q2_K", 400))]
BESIDE = PROGRAMS + 64 * MIB + 4096 * 2048


def chosen(count: int, context: int | None = None) -> str:
    choice = choose(Room("it", count), MODEL, 2000 * MIB, PLANS, context)
    return choice.plan.type.name if choice.plan else "as it is"


def test_the_best_that_fits_to_the_byte() -> None:
    assert chosen(2000 * MIB + BESIDE) == "as it is"
    assert chosen(2000 * MIB + BESIDE - 1) == "Q8_0"
    assert chosen(1000 * MIB + BESIDE - 1) == "Q4_K_M"
    assert chosen(400 * MIB + BESIDE) == "Q2_K"


def test_a_longer_context_leaves_less() -> None:
    room = 1000 * MIB + BESIDE
    assert chosen(room) == "Q8_0"
    assert chosen(room, 4096 + 512) == "Q4_K_M"


def test_the_reason() -> None:
    choice = choose(Room("6 GB", 1100 * MIB), MODEL, 2000 * MIB, PLANS, None)
    assert choice.reason.startswith("Q4_K_M is the best that fits 6 GB: 629.15 MB weights and ")
    assert "at 4096 tokens of context" in choice.reason and choice.reason.endswith("; Q8_0 would take 1.22 GB")


def test_none_fits() -> None:
    with pytest.raises(TooSmall, match="no version of the model fits it: Q2_K, the smallest, takes .*--ctx-size"):
        chosen(400 * MIB + BESIDE - 1)


def test_a_device_has_its_context_and_caches() -> None:
    room = parse_room("pi5-2gb")
    assert (room.bytes, room.context, room.cache_type) == (2 * GIB - 256 * MIB, 2048, "q8_0")
    assert "Raspberry Pi 5 with 2 GB" in room.name
    assert f"at {room.context} tokens" in choose(room, MODEL, 1000 * MIB, [], None).reason


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("6GB", 6 * 10**9),
        ("6 gb", 6 * 10**9),
        ("1.5GiB", 3 << 29),
        ("700M", 7 * 10**8),
        ("1TB", 10**12),
        ("6000000000", 6 * 10**9),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_room(text).bytes == count


@pytest.mark.parametrize("text", ["", "6", "0GB", "GB", "-1GB", "6iB", "pi99", "6GB6", "7B", "9" * 400 + ".5GB"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(NoRoom, match="neither a size such as 6GB nor a device"):
        parse_room(text)
