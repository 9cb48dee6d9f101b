"""The tokenizer: everything comes back, and digits stand alone."""

from itertools import islice

import pytest
from tokenizers import Tokenizer

from mkllm.builder.demo import tokenizer
from mkllm.builder.demo.corpus import conversations
from mkllm.builder.demo.messages import END, START, rendered


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return tokenizer.train((rendered(m) for m in islice(conversations(1, 300), 300)), 600)


@pytest.mark.parametrize(
    "text",
    [
        "Run `mkllm build ./model.gguf -o model`.",
        "47 + 38 = 85.",
        "Grüße, 你好, naïve 🙂",
        "  two  spaces\n\n\ttab",
        "DON'T don't",
    ],
)
def test_text_comes_back(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text).ids, skip_special_tokens=False) == text


def test_every_digit_is_a_token(small: Tokenizer) -> None:
    assert small.encode("4738").tokens == ["4", "7", "3", "8"]


def test_special_tokens_come_first_and_stay_whole(small: Tokenizer) -> None:
    assert [small.token_to_id(token) for token in tokenizer.SPECIAL] == [0, 1, 2]
    assert small.encode(f"{START}user\nhi{END}").tokens[0] == START
    assert small.encode(f"hi{END}").tokens[-1] == END
