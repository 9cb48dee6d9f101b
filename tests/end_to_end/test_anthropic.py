"""The official Anthropic client against a running artifact: messages, streaming, tools, counting, errors."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

QUESTION = [{"role": "user", "content": "What is mkllm?"}]
COLDEST = {"temperature": 0}


@pytest.fixture
def client(demo_server: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=demo_server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: anthropic.Anthropic, **options: Any) -> Any:
    return client.messages.create(model="demo", max_tokens=200, messages=QUESTION, extra_body=COLDEST, **options)  # type: ignore[arg-type]


def test_a_message_is_answered(client: anthropic.Anthropic) -> None:
    answer = ask(client)
    assert "executable" in answer.content[0].text
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 3


def test_the_stream_is_the_same_answer_in_pieces(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="demo", max_tokens=200, messages=QUESTION, extra_body=COLDEST) as stream:  # type: ignore[arg-type]
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == final.content[0].text == ask(client).content[0].text and len(pieces) > 3


def test_a_tool_that_must_be_used_is_used(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
        "required": ["unit"],
    }
    tool = {"name": "get_temperature", "description": "now", "input_schema": schema}
    answer = ask(client, tools=[tool], tool_choice={"type": "any"})
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and call.name == "get_temperature"
    assert call.input["unit"] in {"celsius", "kelvin"}


def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic) -> None:
    usage = ask(client).usage
    counted = client.messages.count_tokens(model="demo", messages=QUESTION).input_tokens  # type: ignore[arg-type]
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_a_bad_request_is_an_error_of_the_clients_own_kind(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError):
        ask(client, tools=[{"name": "x", "description": "x", "input_schema": {"type": "nonsense"}}])


def test_an_api_key_is_asked_for(demo: Any, serve: Any) -> None:
    with serve(demo, "--api-key", "sesame") as server:
        wrong, right = (
            anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0) for key in ("wrong", "sesame")
        )
        with pytest.raises(anthropic.AuthenticationError):
            ask(wrong)
        assert ask(right).content[0].text
