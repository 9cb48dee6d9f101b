"""How long a context is asked for."""

from mkllm.runtime.artifact.manifest import Memory
from mkllm.runtime.engine.context import Context, choose_context, token_bytes


def test_asked_made_and_trained_in_this_order():
    assert choose_context(256, 512, 1000, 1, 1 << 40).tokens == 256
    assert choose_context(None, 512, 1000, 1, 1 << 40).tokens == 512
    assert choose_context(None, None, 1000, 1, 1 << 40).tokens == 1000
    assert choose_context(0, 512, 1000, 1, 1 << 40).tokens == 1000


def test_the_engine_rounds_up():
    assert choose_context(300, None, 1000, 1, 1 << 40) == Context(512)
    assert choose_context(999, None, 1000, 1, 1 << 40) == Context(1000)


def test_the_engine_has_no_more_than_the_model_was_trained_with():
    context = choose_context(4096, None, 1024, 1, 1 << 40)
    assert context.tokens == 1024 and context.note == (
        "context: 1024 tokens instead of 4096, since the model was trained with no more; "
        "-- --rope-scaling yarn --rope-scale N makes it N times as long"
    )
    assert choose_context(None, 4096, 1024, 1, 1 << 40) == Context(1024)
    assert choose_context(4096, None, 1024, 1, 1 << 40, longest=4096) == Context(4096)


def test_what_is_asked_for_is_never_cut():
    assert choose_context(131072, None, 131072, 131072, 1 << 20).note is None


def test_what_does_not_fit_is_cut_and_said():
    context = choose_context(None, None, 131072, 131072, 2 << 30)
    assert context.tokens == 4096
    assert context.note == (
        "context: 4096 of the model's 131072 tokens, since all would take 16.0 GiB of memory; "
        "--ctx-size 131072 asks for all"
    )


def test_much_memory_is_not_all_taken():
    assert choose_context(None, None, 131072, 131072, 64 << 30).tokens == 8192
    assert choose_context(None, None, 131072, 32768, 64 << 30).tokens == 32768


def test_it_is_never_cut_to_nothing():
    assert choose_context(None, None, 131072, 131072, 1).tokens == 2048
    assert choose_context(None, None, 512, 131072, 1).tokens == 512


def test_unknown_sizes_cut_nothing():
    assert choose_context(None, None, 131072, 0, 1 << 30).tokens == 131072
    assert choose_context(None, None, 131072, 131072, 0).tokens == 131072


def test_token_bytes_of_an_8b():
    memory = Memory(32768, 32768, 0, 0, 0)
    assert token_bytes(memory) == 131072
    assert token_bytes(memory, "q8_0", "q8_0") == 69632
    assert token_bytes(Memory(0, 0, 0, 0, 0)) == 0
