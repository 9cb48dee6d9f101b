"""The maker's system prompt goes into requests that have none, his messages into all, in each API's own way."""

import json
from typing import Any

import pytest

from mkllm.runtime.artifact.manifest import Message
from mkllm.runtime.front.opening import applies, with_opening

USER = {"role": "user", "content": "hello"}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


def changed(path: str, body: dict[str, Any]) -> Any:
    return json.loads(with_opening(path, json.dumps(body).encode(), "Be brief.", ()))


def test_chat_completions() -> None:
    found = changed(CHAT, {"messages": [USER], "temperature": 0.1, "seed": 2**60})
    assert found == {"messages": [{"role": "system", "content": "Be brief."}, USER], "temperature": 0.1, "seed": 2**60}


def test_anthropic_messages() -> None:
    assert changed(MESSAGES, {"messages": [USER]}) == {"messages": [USER], "system": "Be brief."}
    assert changed(MESSAGES, {"messages": [USER], "system": None})["system"] == "Be brief."


def test_responses() -> None:
    assert changed(RESPONSES, {"input": "hello"}) == {"input": "hello", "instructions": "Be brief."}
    assert changed(RESPONSES, {"input": [USER]})["instructions"] == "Be brief."


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "system", "content": "Own."}, USER]}),
        (CHAT, {"messages": [{"role": "developer", "content": "Own."}, USER]}),
        (CHAT, {"messages": [USER, {"role": "system", "content": "Own."}]}),
        (CHAT, {"messages": "no list"}),
        (CHAT, {"prompt": "none"}),
        (MESSAGES, {"messages": [USER], "system": "Own."}),
        (MESSAGES, {"messages": [USER], "system": ""}),
        (MESSAGES, {"messages": None}),
        (RESPONSES, {"input": "hello", "instructions": "Own."}),
        (RESPONSES, {"input": [{"role": "developer", "content": "Own."}]}),
        (RESPONSES, {}),
    ],
)
def test_requests_that_stay_as_they_are(path: str, body: dict[str, Any]) -> None:
    data = json.dumps(body, indent=1).encode()
    assert with_opening(path, data, "Be brief.", ()) == data


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'"text"', b"[" * 100_000])
def test_what_is_no_request_stays_as_it_is(body: bytes) -> None:
    assert with_opening(CHAT, body, "Be brief.", ()) == body


def test_characters_survive() -> None:
    text = "grüß \U0001f600 \ud800"
    found = json.loads(
        with_opening(CHAT, json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), "ß", ())
    )
    assert found["messages"][1]["content"] == text and found["messages"][0]["content"] == "ß"


def test_where_it_applies() -> None:
    assert applies("POST", CHAT) and applies("POST", "/apply-template") and applies("POST", "/responses")
    assert not applies("GET", CHAT) and not applies("POST", "/completion") and not applies("POST", "/v1/completions")


EXAMPLES = (Message("user", "2+2?"), Message("assistant", "4"))
SHOWN = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
OWN = {"role": "system", "content": "Own."}


def begun(path: str, body: dict[str, Any], prompt: str | None = None) -> Any:
    return json.loads(with_opening(path, json.dumps(body).encode(), prompt, EXAMPLES))


def test_messages_stand_between_the_system_prompt_and_the_first_question() -> None:
    assert begun(CHAT, {"messages": [USER]}, "Be.")["messages"] == [{"role": "system", "content": "Be."}, *SHOWN, USER]
    assert begun(CHAT, {"messages": [OWN, USER]}, "Be.")["messages"] == [OWN, *SHOWN, USER]
    assert begun(CHAT, {"messages": [USER]})["messages"] == [*SHOWN, USER]
    assert begun(MESSAGES, {"messages": [USER]}, "Be.") == {"messages": [*SHOWN, USER], "system": "Be."}
    items = [{"type": "message", **message} for message in SHOWN]
    assert begun(RESPONSES, {"input": "hello"}, "Be.") == {"input": [*items, USER], "instructions": "Be."}
    assert begun(RESPONSES, {"input": [OWN, USER]}) == {"input": [OWN, *items, USER]}


@pytest.mark.parametrize("body", [{"messages": "none"}, {"prompt": "x"}])
def test_no_messages_where_there_are_none(body: dict[str, Any]) -> None:
    assert begun(CHAT, body, "Be.") == body
