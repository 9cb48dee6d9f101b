"""What can be done to a conversation."""

import json
from pathlib import Path

import pytest

from mkllm.runtime.commands.conversation import Conversation, WrongCommand
from mkllm.runtime.engine.answer import Figures

FIGURES = Figures("stop", 3, 2, 0.1, 0.2)


@pytest.fixture
def talk():
    talk = Conversation("be kind")
    talk.ask("one")
    talk.answered("uno", FIGURES)
    return talk


def test_the_system_prompt_comes_first(talk):
    assert [message["role"] for message in talk.messages()] == ["system", "user", "assistant"]
    talk.system = None
    assert [message["role"] for message in talk.messages()] == ["user", "assistant"]


def test_a_question_without_an_answer_is_taken_back(talk):
    talk.ask("two")
    talk.answered("", None)
    assert [turn["content"] for turn in talk.turns] == ["one", "uno"] and talk.figures == FIGURES


def test_an_answer_that_was_stopped_is_kept(talk):
    talk.ask("two")
    talk.answered("du", None)
    assert talk.turns[-1] == {"role": "assistant", "content": "du"}


def test_the_last_question_comes_back_until_there_is_none(talk):
    assert talk.last_question() == "one" and talk.turns == []
    with pytest.raises(WrongCommand, match="nothing has been asked"):
        talk.last_question()


@pytest.mark.parametrize("text,value", [("3", 3), ("-1", -1), ("0.25", 0.25), ("1e-3", 0.001)])
def test_numbers_keep_their_kind(talk, text, value):
    talk.set("top_k", text)
    assert talk.sampling["top_k"] == value and type(talk.sampling["top_k"]) is type(value)


def test_what_was_saved_can_be_loaded(talk, tmp_path):
    talk.set("seed", "7")
    talk.save(tmp_path / "talk")
    other = Conversation()
    other.load(tmp_path / "talk")
    assert (other.system, other.turns, other.sampling) == (talk.system, talk.turns, {"seed": 7})


@pytest.mark.parametrize(
    "change",
    [
        {"turns": {}},
        {"turns": ["text"]},
        {"turns": [{"role": "king", "content": "x"}]},
        {"turns": [{"role": "user", "content": 1}]},
        {"sampling": {"seed": "7"}},
        {"sampling": {"colour": 1}},
        {"sampling": {"temperature": float("nan")}},
        {"sampling": []},
        {"system": 3},
    ],
)
def test_anything_else_changes_nothing(talk, tmp_path, change):
    whole = {"system": None, "turns": [], "sampling": {}}
    (tmp_path / "file").write_text(json.dumps({**whole, **change}))
    before = talk.messages()
    with pytest.raises(WrongCommand, match="is not a conversation"):
        talk.load(tmp_path / "file")
    assert talk.messages() == before


def test_a_file_that_nests_without_end_is_no_conversation(talk, tmp_path):
    (tmp_path / "file").write_text("[" * 200_000)
    with pytest.raises(WrongCommand, match="is not a conversation"):
        talk.load(tmp_path / "file")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "²", ""])
def test_only_numbers_are_set(talk, value):
    with pytest.raises(WrongCommand, match="is no number"):
        talk.set("temperature", value)
    assert "temperature" not in talk.sampling


def test_a_place_that_cannot_be_written(talk):
    with pytest.raises(WrongCommand, match="'/nowhere/x' cannot be written"):
        talk.save(Path("/nowhere/x"))
