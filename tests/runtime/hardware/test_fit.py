"""How a model is fitted into the memory of a machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkllm.runtime.artifact.manifest import WEIGHTS, Memory, Model
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.fit import PROMPTS, SHORTEST, Asked, Fit, buffers, caches, fit
from mkllm.runtime.hardware.probe import Facts

GIB, MIB = 1 << 30, 1 << 20
# Mistral 7B in Q4_0, as the engine tells: 128 KiB of cache for each token.
MISTRAL = Memory(cache_keys=32768, cache_values=32768, cache_fixed=0, compute=116 * MIB, compute_token=1024)
WEIGHTS_7B = 4108 * MIB
UNKNOWN = Memory(0, 0, 0, 0, 0)


def model(memory: Memory = MISTRAL, context: int = 32768, parameters: int = 7_240_000_000) -> Model:
    return Model(WEIGHTS, "llama", parameters, "Q4_0", context, None, None, None, memory)


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
    assert fitted(Asked(made=4096), machine(64), context=1024).notes == ()
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
    assert found.notes == ("caches: q8_0, since the 4.3 GB of f16 are not free; -ctk f16 -ctv f16 asks for more",)


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
    assert found.batch == 128 and found.notes[-1] == (
        "batch: 128 tokens instead of 512 to save memory; --ubatch-size 512 asks for more"
    )
    assert fitted(Asked(context=2048, batch=1024), machine(4.3, 8)).batch == 1024
    assert found.prompts < 100 * MIB


def test_memory_that_others_hold_is_said_to_make_it_slow() -> None:
    found = fitted(Asked(context=2048), machine(2, 8))
    assert found.notes[0] == (
        "memory: only 2.1 GB are free for 4.3 GB of weights, so parts of them are read from the disk again and again: "
        "end other programs"
    )


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            machine(1.5, 2),
            "the model needs 4.6 GB of memory, this machine has 2.1 GB: a model of at most 1.9 GB would",
        ),
        (
            machine(3, 4),
            "this machine has 4.3 GB: its Q3_K_M would fit; --fit off starts it all the same",
        ),
        (machine(1.9, 64, limit=2), "this container may have 2.1 GB: a model of at most"),
        (machine(0.1, 0.2), "no model fits"),
    ],
)
def test_too_little_memory_says_what_would_fit(facts: Facts, why: str) -> None:
    with pytest.raises(TooLittleMemory) as caught:
        fitted(Asked(), facts)
    assert why in str(caught.value) and "\n" not in str(caught.value)
    assert fitted(Asked(checked=False), facts).context == 32768


def test_unknown_sizes_cut_nothing() -> None:
    assert fitted(Asked(), machine(8), UNKNOWN).context == 32768
    assert fitted(Asked(), Facts()).context == 32768


def test_windows_and_states_do_not_grow() -> None:
    """Sliding windows: much that is fixed, little for each token."""
    sliding = replace(MISTRAL, cache_keys=4096, cache_values=4096, cache_fixed=200 * MIB)
    assert caches(sliding, 1000) == 200 * MIB + 1000 * 16384
    assert fitted(Asked(), machine(64), sliding).context == 32768


def test_buffers_grow_with_batch_and_context() -> None:
    assert buffers(MISTRAL, 8192, 512) == 124 * MIB
    assert buffers(MISTRAL, 8192, 128) == 31 * MIB


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
    assert min(SHORTEST, trained, context or trained) <= found.context <= trained
    whole = min(-(-context // 256) * 256, trained) if context else trained
    assert found.notes or (found.context, found.type_k, found.batch) == (whole, "f16", 512)
