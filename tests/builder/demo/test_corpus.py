"""The corpus: the same for the same seed, apart from the held-out questions, and free of loose ends."""

import random
import re

import pytest

from mkllm.builder.demo import arithmetic, corpus, heldout, tools, topics
from mkllm.builder.demo.grammar import Expansion
from mkllm.builder.demo.messages import Message


def test_same_seed_same_conversations() -> None:
    assert list(corpus.conversations(7, 200)) == list(corpus.conversations(7, 200))


def test_other_seed_other_conversations() -> None:
    assert list(corpus.conversations(7, 20)) != list(corpus.conversations(8, 20))


def test_held_out_questions_never_occur() -> None:
    apart = {heldout.normal(prompt) for prompt in heldout.prompts()}
    asked = {
        heldout.normal(message.content)
        for conversation in corpus.conversations(3, 5000)
        for message in conversation
        if message.role == "user"
    }
    assert len(asked) > 4000
    assert not apart & asked


def test_a_held_out_question_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a template can produce it word for word."""
    drawn = iter([corpus.Exchange("greet", "Hello!", "Hi"), corpus.Exchange("greet", "hey", "Hi")])
    monkeypatch.setattr(corpus, "draw", lambda *_: next(drawn))
    exchange = corpus.next_exchange(topics.load(), None, frozenset({"hello"}), random.Random(1))
    assert exchange.question == "hey"


def test_roles_take_turns() -> None:
    for conversation in corpus.conversations(5, 300):
        spoken = [m.role for m in conversation if m.role != "system"]
        assert spoken == ["user", "assistant"] * (len(spoken) // 2)


def test_every_template_expands_and_leaves_no_slot_open() -> None:
    known = topics.load()
    rng = random.Random(1)
    for intent in known.intents.values():
        for template in intent.ask:
            expansion = Expansion(known.slots, rng)
            assert not re.search(r"[\[\]|]|\{\w", expansion.phrase(template).replace("[]", ""))
            assert not re.search(r"\{[A-Z]+\}", expansion.answer(intent.answer, known.defaults))


def test_hardly_any_question_means_two_things() -> None:
    known = topics.load()
    rng = random.Random(1)
    meant: dict[str, set[str]] = {}
    for intent in known.intents.values():
        for template in intent.ask * 3:
            meant.setdefault(Expansion(known.slots, rng).phrase(template), set()).add(intent.name)
    assert len(meant) > 10_000
    assert sum(len(names) > 1 for names in meant.values()) < len(meant) / 1000


def test_an_answer_repeats_what_the_question_named() -> None:
    expansion = Expansion({"PORT": ["9000"]}, random.Random(1))
    assert expansion.phrase("use [port|the port] {PORT}").endswith("9000")
    assert expansion.answer("`--port {PORT}`", {"PORT": "8081"}) == "`--port 9000`"


def test_alternatives_nest() -> None:
    rng = random.Random(1)
    phrases = {Expansion({}, rng).phrase("a [b [c|d]|e] f") for _ in range(60)}
    assert phrases == {"a b c f", "a b d f", "a e f"}


def test_reserved_pairs_are_never_trained() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        a, sign, b = arithmetic.operands(rng)
        assert sign in "x/" or not (arithmetic.reserved(a, b) or arithmetic.reserved(b, a))


@pytest.mark.parametrize(
    ("a", "sign", "b", "answer"),
    [(47, "+", 38, "47 + 38 = 85."), (9, "x", 8, "9 x 8 = 72."), (56, "/", 7, "56 / 7 = 8.")],
)
def test_arithmetic_is_right(a: int, sign: str, b: int, answer: str) -> None:
    assert arithmetic.solve(a, sign, b) == answer


def test_numbers_in_words() -> None:
    assert [arithmetic.in_words(n) for n in (0, 13, 40, 87, 100)] == [
        "zero", "thirteen", "forty", "eighty-seven", "one hundred",
    ]  # fmt: skip


def test_tool_calls_name_the_offered_tool() -> None:
    for seed in range(20):
        offered, asked, called, *_ = tools.conversation(random.Random(seed))
        name = re.search(r'"name": "(\w+)"', called.content)
        assert name and f'"name": "{name[1]}"' in offered.content
        assert isinstance(asked, Message)
