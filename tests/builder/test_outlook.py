"""What a model comes to on a device, in sizes that can be reckoned by hand."""

from dataclasses import replace

import pytest

from mkllm.builder.devices import Device, find_device
from mkllm.builder.outlook import Outlook, outlook, sentences
from mkllm.runtime.artifact.footprint import PROGRAMS
from mkllm.runtime.artifact.manifest import WEIGHTS, Defaults, Memory, Model

MIB, GIB = 1 << 20, 1 << 30
# 1 KiB a token in f16 for keys and as much for values; buffers of 64 MiB that do not grow.
MEMORY = Memory(512, 512, 0, 0, 0, True, 64 * MIB, 0, 0)
MODEL = Model(WEIGHTS, "llama", 10**9, "Q4_0", 32768, 16, 0, None, None, None, MEMORY, token_weights=600 * 10**6)
PI5 = find_device("pi5-4gb")


def looked(device: Device, weights: int = GIB, model: Model = MODEL, **defaults: object) -> Outlook:
    return outlook(device, model, weights, Defaults(**defaults))  # type: ignore[arg-type]


def test_what_is_set_for_a_device() -> None:
    found = looked(find_device("pi5-2gb"))
    made = found.made
    assert (made.name, made.machine, made.cores, made.memory) == ("pi5-2gb", "aarch64", 4, 2 * GIB)
    assert (made.context, made.cache_type, made.threads, made.batch) == (2048, "q8_0", 4, 256)
    assert found.needed == GIB + PROGRAMS + 2048 * 1024 * 17 // 16 + 32 * MIB
    assert found.room == 2 * GIB - 256 * MIB and found.fits


def test_what_the_maker_settled_stays() -> None:
    words = ("-ctk", "q4_0", "--threads", "2", "-ub", "64")
    found = looked(find_device("pi5-2gb"), context=1024, engine_args=words)
    made = found.made
    assert (made.context, made.cache_type, made.threads, made.batch) == (None, None, None, None)
    assert found.context == 1024
    assert found.needed == GIB + PROGRAMS + 1024 * (512 * 9 // 16 + 512 * 2) + 8 * MIB


def test_a_batch_that_no_engine_takes_is_not_reckoned_with() -> None:
    usual = looked(PI5)
    for word in ("9" * 400, "9" * 5000, "many"):
        assert looked(PI5, engine_args=("-ub", word)).needed == usual.needed


def test_caches_that_the_engine_does_not_quantize_are_not() -> None:
    plain = replace(MODEL, memory=replace(MEMORY, cache_quantized=False))
    assert looked(PI5, model=plain).made.cache_type is None


def test_no_more_context_than_the_model_has_or_there_is_room_for() -> None:
    assert looked(PI5, model=replace(MODEL, context=1000)).context == 1000
    memory = replace(MEMORY, cache_quantized=False)
    beside = PI5.memory - PI5.system - PROGRAMS - 64 * MIB
    found = looked(PI5, beside - 3000 * 2048, replace(MODEL, memory=memory))
    assert found.context == 2816 and found.fits


def test_what_does_not_fit_is_said() -> None:
    slow = looked(PI5, PI5.memory - 250 * MIB)
    assert not slow.fits and slow.context == 512
    assert "where parts of it would be read from the disk again and again" in sentences(slow)[1]
    never = looked(PI5, 5 * GIB)
    room = PI5.memory - PI5.system - (never.needed - 5 * GIB)
    assert sentences(never)[1] == (
        "warning: the model does not fit a Raspberry Pi 5 with 4 GB, where it will not start without --fit off: "
        f"weights of at most {room / 1e9:.2f} GB would, these are 5.37 GB"
    )


def test_no_model_fits_beside_large_caches() -> None:
    huge = replace(MODEL, memory=replace(MEMORY, cache_state=GIB))
    assert sentences(looked(find_device("pi-zero-2"), model=huge))[1].endswith("no model does")


def test_the_estimate_says_what_it_is() -> None:
    found = looked(PI5)
    assert found.tokens_per_second == pytest.approx(17.1e9 / 600e6)
    assert sentences(found)[-1] == (
        "estimate: at most 28.5 tokens/s generated, as many as the weights of one token (600.00 MB) pass the memory at "
        "its peak (17.1 GB/s by its data sheet); real ones are fewer, and prompts are not estimated"
    )


def test_experts_that_are_not_used_are_not_counted() -> None:
    sparse = replace(MODEL, token_weights=171 * 10**6)
    assert looked(PI5, 3 * GIB, sparse).tokens_per_second == pytest.approx(100)


@pytest.mark.parametrize(
    ("device", "token", "why"),
    [
        ("generic-4gb", 600 * 10**6, "the memory bandwidth of any machine with 4 GB is not known"),
        ("pi5", 0, "the model does not say how much"),
        ("pi5", 1_420_000, "stays in the processor's caches"),
    ],
)
def test_no_estimate_where_there_is_nothing_to_go_by(device: str, token: int, why: str) -> None:
    found = looked(find_device(device), model=replace(MODEL, token_weights=token))
    assert found.tokens_per_second is None and why in sentences(found)[-1]
