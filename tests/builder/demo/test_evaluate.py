"""The evaluation: turns are played with the model's own answers, and the table counts by topic."""

from collections.abc import Sequence

from mkllm.builder.demo.evaluate import Outcome, ask, share, table
from mkllm.builder.demo.heldout import Question
from mkllm.builder.demo.messages import Message


def question(topic: str, *turns: str, system: str = "") -> Question:
    return Question(topic, turns, system, ("yes",), (), ())


def test_only_the_last_answer_is_judged_and_earlier_ones_stay_in_the_chat() -> None:
    seen: list[list[Message]] = []

    def answer(messages: Sequence[Message]) -> str:
        seen.append(list(messages))
        return "no" if len(seen) == 1 else "yes"

    outcome = ask(question("turns", "first", "second", system="Be brief."), answer)
    assert outcome.right
    assert [m.role for m in seen[1]] == ["system", "user", "assistant", "user"]
    assert seen[1][2].content == "no"


def test_the_table_counts_each_topic_and_all() -> None:
    outcomes = [Outcome(question("kits", "a"), "yes"), Outcome(question("kits", "b"), "no")]
    outcomes.append(Outcome(question("serve", "c"), "Yes."))
    assert table(outcomes).splitlines()[2:] == [
        "| kits | 1 | 2 | 50% |",
        "| serve | 1 | 1 | 100% |",
        "| all | 2 | 3 | 67% |",
    ]
    assert share(outcomes) == 2 / 3
