"""Words are changed as people change them, and never those that carry a value."""

import random

from mkllm.builder.demo.variation import unknown, with_unknown


def test_one_plain_word_becomes_unknown() -> None:
    rng = random.Random(1)
    text = "build two programs from ./model.gguf --force"
    for _ in range(50):
        words = with_unknown(text, rng).split()
        changed = [i for i, (old, new) in enumerate(zip(text.split(), words, strict=True)) if old != new]
        assert len(changed) <= 1 and set(changed) <= {0, 2, 3}


def test_text_without_plain_words_stays() -> None:
    assert with_unknown("--port 8080 ./model", random.Random(1)) == "--port 8080 ./model"


def test_unknown_words_can_be_spoken() -> None:
    rng = random.Random(1)
    words = {unknown(rng) for _ in range(200)}
    assert len(words) > 150 and all(word.isalpha() and set(word) & set("aeiou") for word in words)
