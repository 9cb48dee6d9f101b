"""How a model is fitted into the memory of a machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkllm.runtime.artifact.manifest import WEIGHTS, Memory, Model
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.fit import PROMPTS, SHORTEST, Asked, Fit, fit
from mkllm.runtime.hardware.probe import Facts

GIB, MIB = 1 << 30, 1 << 20
# Mistral 7B in Q4_0, as the engine tells: 128 KiB of cache for each token.
MISTRAL = Memory(
    cache_keys=32768,
    cache_values=32768,
    cache_cell=0,
    cache_window=0,
    cache_state=0,
    cache_quantized=True,
    compute=116 * MIB,
    compute_token=1024,
    compute_token_unfused=65536,
)
WEIGHTS_7B = 4108 * MIB
UNKNOWN = Memory(0, 0, 0, 0, 0, False, 0, 0, 0)
# Gemma 3 27B: 10 of 62 layers see everything, 52 a window of 1024 tokens with 8 KiB each.
GEMMA = replace(MISTRAL, cache_keys=20480, cache_values=20480, cache_cell=425_984, cache_window=1024 * 425_984)


def model(memory: Memory = MISTRAL, context: int = 32768, parameters: int = 7_240_000_000) -> Model:
    return Model(WEIGHTS, "llama", parameters, "Q4_0", context, 32, 0, None, None, None, memory)


def machine(available: float, total: float = 0, limit: float | None = None) -> Facts:
    """In GiB."""
    bytes_of = int(limit * GIB) if limit else None
    return Facts(memory_available=int(available * GIB), memory_total=int((total or 256) * GIB), memory_limit=bytes_of)


def fitted(asked: Asked, facts: Facts, memory: Memory = MISTRAL, **changes: int) -> Fit:
    return fit(asked, model(memory, **changes), WEIGHTS_7B, facts)


def test_asked_made_and_trained_in_this_order() -> None:
    assert fitted(Asked(context=256, made=512), machine(64)).context == 256
    assert fitted(Asked(made=512), machine(64)).context == 512
    assert fitted(Asked(), machine(64), context=4096).context == 4096
    assert fitted(Asked(context=0, made=512), machine(64), context=4096).context == 4096


def test_the_engine_rounds_up() -> None:
    assert fitted(Asked(context=300), machine(64)).context == 512
    assert fitted(Asked(context=999), machine(64), context=1000).context == 1000


def test_the_engine_has_no_more_than_the_model_was_trained_with() -> None:
    found = fitted(Asked(context=4096), machine(64), context=1024)
    assert (found.context, found.notes) == (
        1024,
        (
            "context: 1024 tokens instead of 4096, since the model was trained with no more; "
            "-- --rope-scaling yarn --rope-scale N makes it N times as long",
        ),
    )
    assert fitted(Asked(made=4096), machine(64), context=1024).notes == found.notes
    assert fitted(Asked(context=4096, longest=4096), machine(64), context=1024).context == 4096


def test_much_memory_is_not_all_taken() -> None:
    """Where nobody asked, a context whose caches the engine fills with zeros in no time."""
    found = fitted(Asked(), machine(64))
    assert (found.context, found.type_k, found.batch, found.caches) == (8192, "f16", 512, GIB)
    assert found.notes == (
        "context: 8192 of the model's 32768 tokens, since all would take 4.3 GB of memory; "
        "--ctx-size 32768 asks for all",
    )
    assert found.prompts == PROMPTS


def test_what_is_asked_for_and_fits_is_taken() -> None:
    found = fitted(Asked(context=32768), machine(12))
    assert (found.context, found.type_k, found.type_v, found.notes) == (32768, "f16", "f16", ())
    assert (found.caches, found.buffers) == (4 * GIB, 148 * MIB)


def test_caches_are_made_smaller_first() -> None:
    found = fitted(Asked(context=32768), machine(7))
    assert (found.context, found.type_k, found.type_v) == (32768, "q8_0", "q8_0")
    assert found.notes == ("caches: q8_0, since the 4.3 GB of f16 are not free; --fit off keeps f16",)


def test_then_the_context() -> None:
    found = fitted(Asked(context=32768), machine(5))
    assert (found.context, found.type_k, found.type_v) == (11776, "q8_0", "q8_0")
    assert found.notes == (
        "context: 11776 tokens instead of 32768 and caches in q8_0, since the 4.3 GB of f16 are not free; "
        "--fit off takes them all the same",
    )


def test_types_that_were_asked_for_stay() -> None:
    found = fitted(Asked(context=32768, type_k="f16"), machine(7))
    assert (found.context, found.type_k, found.type_v) == (22528, "f16", "f16")
    assert "and caches in" not in found.notes[0]
    assert fitted(Asked(context=32768, type_k="q4_0", type_v="q4_0"), machine(6)).context == 32768


def test_fit_off_takes_everything_as_asked() -> None:
    found = fitted(Asked(context=32768, checked=False), machine(1, 2))
    assert (found.context, found.type_k, found.batch, found.notes) == (32768, "f16", 512, ())


def test_little_memory_has_small_batches() -> None:
    found = fitted(Asked(context=2048), machine(4.3, 8))
    assert found.batch == 128 and found.notes[0] == (
        "batch: 128 tokens instead of 512 to save memory; -ub 512 asks for more"
    )
    assert fitted(Asked(context=2048, batch=1024), machine(4.3, 8)).batch == 1024
    assert found.prompts < 100 * MIB


def test_batches_that_must_stay_whole() -> None:
    assert fitted(Asked(context=2048, whole=True), machine(4.3, 8)).batch == 512


def test_a_model_whose_caches_cannot_be_quantized() -> None:
    """Only the context is reduced."""
    found = fitted(Asked(context=32768), machine(7), replace(MISTRAL, cache_quantized=False))
    assert (found.context, found.type_k, found.type_v) == (22528, "f16", "f16")
    assert found.notes[0].startswith("context: 22528 tokens instead of 32768, since")


def test_without_flash_attention() -> None:
    """Caches cannot be quantized then, and the buffers grow with the context."""
    found = fitted(Asked(context=32768, fused=False), machine(64))
    assert found.buffers == 116 * MIB + 2 * GIB
    found = fitted(Asked(context=32768, fused=False), machine(7))
    assert (found.type_k, found.type_v) == ("f16", "f16") and found.context < 22528
    assert found.caches + found.buffers <= 7 * GIB - WEIGHTS_7B


def test_short_contexts_have_smaller_caches_too() -> None:
    found = fitted(Asked(context=2048), machine(4.3, 8))
    assert (found.context, found.type_k) == (2048, "q8_0") and any("q8_0" in note for note in found.notes)


def test_memory_that_others_hold_is_said_to_make_it_slow() -> None:
    found = fitted(Asked(context=2048), machine(2, 8))
    assert found.notes[-1] == (
        "memory: 4.6 GB are needed and only 2.1 GB are free, so parts of the model are read from the disk again and "
        "again: end other programs"
    )


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            machine(1.5, 2),
            "model needs 4.6 GB of memory, this machine has 2.1 GB: a model of at most 1.9 GB would fit;",
        ),
        (machine(3, 4), "this machine has 4.3 GB: its Q3_K_M would fit; --fit off starts it all the same, slowly"),
        (machine(1.9, 64, limit=2), "this container may have 2.1 GB: a model of at most"),
        (machine(0.1, 0.2), "no model fits"),
        (machine(0, 2), "this machine has 2.1 GB"),
    ],
)
def test_too_little_memory_says_what_would_fit(facts: Facts, why: str) -> None:
    with pytest.raises(TooLittleMemory) as caught:
        fitted(Asked(), facts)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_weights_alone_are_too_much_for_a_model_that_says_nothing() -> None:
    with pytest.raises(TooLittleMemory, match="the model needs 4.4 GB of memory"):
        fitted(Asked(), machine(1, 4), UNKNOWN)


def test_what_fits_by_a_short_context_is_not_refused() -> None:
    tight = machine(4.2, 4.2)
    assert fitted(Asked(context=256), tight).context == 256
    with pytest.raises(TooLittleMemory):
        fitted(Asked(context=2048, type_k="f16", type_v="f16", batch=512), tight)


def test_fit_off_still_takes_no_context_that_nobody_asked_for() -> None:
    found = fitted(Asked(checked=False), machine(3, 4))
    assert (found.context, found.batch, found.prompts) == (2048, 512, 0)
    assert fitted(Asked(context=0, checked=False), machine(3, 4)).context == 32768


def test_unknown_sizes_cut_nothing_but_what_nobody_asked_for() -> None:
    assert fitted(Asked(), machine(8), UNKNOWN).context == 32768
    assert fitted(Asked(), Facts()).context == 8192
    assert fitted(Asked(context=0), Facts()).context == 32768


def test_sliding_windows_are_there_for_each_request_and_do_not_grow() -> None:
    cells = 425_984
    assert fitted(Asked(context=16384, slots=4), machine(64), GEMMA).caches == (4096 + 512) * cells + 16384 * 81920
    assert fitted(Asked(context=2048, slots=4), machine(64), GEMMA).caches == 2048 * (cells + 81920)
    assert fitted(Asked(context=16384, slots=1), machine(64), GEMMA).caches == (1024 + 512) * cells + 16384 * 81920
    assert fitted(Asked(context=16384, unwindowed=True), machine(64), GEMMA).caches == 16384 * (cells + 81920)
    half = fitted(Asked(context=16384, slots=4, type_k="q8_0", type_v="q8_0"), machine(64), GEMMA)
    assert half.caches == ((4096 + 512) * cells + 16384 * 81920) * 17 // 32


def test_windows_leave_the_automatic_context_alone() -> None:
    assert fitted(Asked(slots=4), machine(64), GEMMA, context=131072).context == 13056


def test_states_are_there_for_each_request() -> None:
    mamba = replace(UNKNOWN, cache_state=50 * MIB, compute=100 * MIB)
    found = fitted(Asked(slots=4), machine(64), mamba)
    assert (found.context, found.caches) == (32768, 200 * MIB)


def test_a_smaller_batch_before_a_refusal() -> None:
    """Where everything else is at its least already."""
    llama = replace(MISTRAL, cache_keys=131072, cache_values=131072, cache_quantized=False)
    found = fitted(Asked(context=2048), machine(5.2, 5.2), llama)
    assert found.batch == 256 and found.caches == GIB


def test_a_context_that_the_engine_was_told_to_be_shorter() -> None:
    assert fitted(Asked(longest=4096), machine(64)).context == 4096
    assert fitted(Asked(context=0, longest=4096), machine(64)).context == 4096


def test_other_files_that_are_loaded() -> None:
    assert fitted(Asked(context=32768, beside=2 * GIB), machine(9)).type_k == "q8_0"
    assert fitted(Asked(context=32768), machine(9)).type_k == "f16"


def test_buffers_grow_with_batch_and_context() -> None:
    assert fitted(Asked(context=8192), machine(64)).buffers == 124 * MIB
    assert fitted(Asked(context=8192, batch=128), machine(64)).buffers == 31 * MIB


SIZES = st.integers(0, 1 << 36)


@given(SIZES, SIZES, st.none() | SIZES, st.none() | st.integers(0, 1 << 20), st.integers(1, 1 << 20))
def test_any_machine_gets_a_fit_or_a_sentence(
    available: int, total: int, limit: int | None, context: int | None, trained: int
) -> None:
    facts = Facts(memory_available=min(available, total), memory_total=total, memory_limit=limit)
    try:
        found = fitted(Asked(context=context), facts, context=trained)
    except TooLittleMemory as error:
        assert str(error).count("\n") == 0
        return
    has = min(total, limit or total)
    assert not has or WEIGHTS_7B + found.caches + found.buffers <= has
    assert min(SHORTEST, trained, context or trained) <= found.context <= trained
    whole = min(-(-context // 256) * 256, trained) if context else trained
    assert found.notes or (found.context, found.type_k, found.batch) == (whole, "f16", 512)
