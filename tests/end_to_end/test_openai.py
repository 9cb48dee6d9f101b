"""The official OpenAI client against a running artifact: chat, streaming, JSON schema, tools, embeddings, models,
errors."""

import json
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is mkllm?"}]


@pytest.fixture
def client(demo_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo_server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model="demo", messages=QUESTION, temperature=0, **options)  # type: ignore[arg-type]


def test_the_model_has_the_artifacts_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]


def test_chat_answers(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert "executable" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens > 3


def test_the_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = ask(client).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True) if chunk.choices]
    assert "".join(pieces) == whole and len(pieces) > 3


def test_an_answer_that_was_begun_is_continued(client: openai.OpenAI) -> None:
    """As llama-server does it, the answer has what was begun in it."""
    plain = ask(client)
    whole = plain.choices[0].message.content
    begun = "".join(whole.partition(" model")[:2])
    messages = [*QUESTION, {"role": "assistant", "content": begun}]
    words: dict[str, Any] = {"model": "demo", "messages": messages, "temperature": 0}
    answer = client.chat.completions.create(**words)
    stream = client.chat.completions.create(**words, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole
    assert answer.choices[0].message.content == whole and len(begun) < len(whole)
    assert answer.usage and answer.usage.completion_tokens < plain.usage.completion_tokens


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    found = json.loads(ask(client, response_format=wanted, max_tokens=120).choices[0].message.content)
    assert set(found) == {"name", "age"} and isinstance(found["age"], int) and 0 <= found["age"] <= 99


def test_a_required_tool_is_called(client: openai.OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
        "required": ["unit"],
    }
    tool = {"type": "function", "function": {"name": "get_temperature", "description": "now", "parameters": parameters}}
    message = ask(client, tools=[tool], tool_choice="required", max_tokens=200).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_temperature"
    assert json.loads(call.function.arguments)["unit"] in {"celsius", "kelvin"}


def test_embeddings_tell_like_from_unlike(embedding_server: Any) -> None:
    texts = ["What is mkllm?", "What is mkllm for?", "What is 7 times 8?"]
    with openai.OpenAI(base_url=f"{embedding_server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        one, like, unlike = (row.embedding for row in client.embeddings.create(model="demo", input=texts).data)
    assert len(one) == 128 and math.isclose(math.hypot(*one), 1.0, rel_tol=1e-4)
    assert math.dist(one, like) < math.dist(one, unlike)


def test_a_bad_request_is_an_error_of_the_clients_own_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(
            client,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        )


def test_an_api_key_is_asked_for(demo: Any, serve: Any) -> None:
    with serve(demo, "--api-key", "sesame") as server:
        for key, right in (("wrong", False), ("sesame", True)):
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
                if right:
                    assert ask(client).choices[0].message.content
                else:
                    with pytest.raises(openai.AuthenticationError):
                        ask(client)
