"""Which type fits into how much memory, in sizes that can be reckoned by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.devices import find_device
from mkllm.builder.errors import TooSmall
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.needs import needs
from mkllm.builder.outlook import outlook
from mkllm.builder.progress import Output
from mkllm.builder.quant import choice
from mkllm.builder.quant.choice import Quantizing
from mkllm.builder.quant.fit import NoRoom, Room, choose, parse_room
from mkllm.builder.quant.quantize import Plan
from mkllm.builder.quant.types import parse_type
from mkllm.runtime.artifact.footprint import PROGRAMS
from mkllm.runtime.artifact.manifest import WEIGHTS, Defaults, Memory, Model

MIB, GIB = 1 << 20, 1 << 30
# 2 KiB a token in f16; buffers of 64 MiB that do not grow.
MEMORY = Memory(512, 512, 0, 0, 0, True, 64 * MIB, 0, 0)
MODEL = Model(WEIGHTS, "llama", 10**9, "F16", 32768, 16, 0, None, None, None, MEMORY)
PLANS = [Plan(parse_type(name), count * MIB, False) for name, count in (("Q8_0", 1000), ("Q4_K_M", 600), ("Q2_K", 400))]
BESIDE = PROGRAMS + 64 * MIB + 4096 * 2048


def chosen(count: int, context: int | None = None) -> str:
    choice = choose(Room("it", count), MODEL, 2000 * MIB, PLANS, Defaults(context=context))
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
    choice = choose(Room("6 GB", 1100 * MIB), MODEL, 2000 * MIB, PLANS, Defaults())
    assert choice.reason.startswith("Q4_K_M is the best that fits 6 GB: 629.15 MB weights and ")
    assert "at 4096 tokens of context" in choice.reason and choice.reason.endswith("; Q8_0 would take 1.22 GB")


def test_none_fits() -> None:
    with pytest.raises(TooSmall, match="no version of the model fits it: Q2_K, the smallest, takes .*--ctx-size"):
        chosen(400 * MIB + BESIDE - 1)


def test_a_device_has_its_context_and_caches() -> None:
    room = parse_room("pi5-2gb")
    device = room.device
    assert device and (room.bytes, device.context, device.cache_type) == (2 * GIB - 256 * MIB, 2048, "q8_0")
    assert "Raspberry Pi 5 with 2 GB" in room.name
    assert f"at {device.context} tokens" in choose(room, MODEL, 1000 * MIB, [], Defaults()).reason


@pytest.mark.parametrize("name", ["pi5-2gb", "pi5", "generic-2gb"])
@pytest.mark.parametrize("words", [(), ("-ub", "64"), ("-ctk", "q4_0"), ("--batch-size", "2048")])
@pytest.mark.parametrize("context", [None, 3000])
def test_what_is_reckoned_with_is_what_a_device_gets(name: str, words: tuple[str, ...], context: int | None) -> None:
    """To the byte: what fits here has the device's context there, and one byte more does not fit."""
    defaults = Defaults(context=context, engine_args=words)
    room = parse_room(name)
    assert room.device
    beside = needs(room.device, MODEL, defaults).beside(context or room.device.context)
    fits = choose(room, MODEL, room.bytes - beside, PLANS, defaults)
    told = outlook(room.device, MODEL, room.bytes - beside, defaults)
    assert fits.plan is None and told.fits and told.context == fits.tokens == (context or room.device.context)
    assert choose(room, MODEL, room.bytes - beside + 1, PLANS, defaults).plan is PLANS[0]


def test_a_size_on_a_device() -> None:
    device = find_device("pi5-2gb")
    assert Room("6 GB", 6 * 10**9).on(device) == parse_room("pi5-2gb")
    small = Room("1 GB", 10**9).on(device)
    assert small == Room("1 GB", 10**9, device)
    assert "at 2048 tokens" in choose(small, MODEL, 100 * MIB, [], Defaults()).reason


@pytest.mark.parametrize(
    ("room", "context", "baked"),
    [
        (Room("6 GB", 6 * 10**9), None, 4096),
        (Room("6 GB", 6 * 10**9), 8192, 8192),
        (parse_room("generic-2gb"), None, None),  # which bakes its own
    ],
)
def test_what_was_reckoned_with_is_baked(
    room: Room,
    context: int | None,
    baked: int | None,
    small_kit: Kit,
    tmp_path: Path,
    gguf_bytes: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(gguf_bytes(llama__context_length=32768))
    monkeypatch.setattr(choice, "kit_here", lambda kit: kit)
    monkeypatch.setattr(choice, "plans", lambda *_: [])
    source = resolve(str(model), Output(True))
    made, defaults = choice.apply(small_kit, source, Quantizing(room=room), Defaults(context=context), Output(True))
    assert made is source and defaults == Defaults(context=baked)


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
