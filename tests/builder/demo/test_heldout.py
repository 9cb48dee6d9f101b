"""The held-out file, and how an answer is judged."""

from collections import Counter

import pytest

from mkllm.builder.demo.heldout import Question, normal, read


def test_there_are_enough_over_all_topics() -> None:
    questions = read()
    assert len(questions) >= 150
    assert min(Counter(q.topic for q in questions).values()) >= 8


def test_every_question_says_what_a_right_answer_has() -> None:
    assert all(q.contains or q.any_of for q in read())


def test_no_question_is_asked_twice() -> None:
    assert max(Counter(tuple(map(normal, q.turns)) for q in read()).values()) == 1


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Use `--port 9000`.", True),
        ("use `--PORT 9000`", True),
        ("Use it.", False),
        ("I do not know: --port 9000", False),
    ],
)
def test_judging(answer: str, right: bool) -> None:
    question = Question("serve", ("q",), "", ("--port",), ("9000", "9001"), ("do not know",))
    assert question.right(answer) is right


def test_normal_ignores_casing_and_punctuation() -> None:
    assert normal("  What IS  mkllm ?!") == normal("what is mkllm") == "what is mkllm"
    assert normal("./model -p -") == "./model -p -"
