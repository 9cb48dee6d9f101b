"""The chat template renders what training saw, and survives what clients send."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

import mkllm.builder.demo
from mkllm.builder.demo.messages import Message, rendered

FILE = Path(mkllm.builder.demo.__file__).parent / "chat_template.jinja"
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def render(messages: list[dict[str, Any]], **values: Any) -> str:
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined)
    environment.filters["tojson"] = json.dumps
    return environment.from_string(FILE.read_text(encoding="utf-8")).render(messages=messages, **values)


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "Hello")],
        [("system", "Be brief."), ("user", "Hello")],
        [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "What is mkllm?")],
    ],
)
@pytest.mark.parametrize("answer_next", [True, False])
def test_renders_what_training_saw(turns: list[tuple[str, str]], answer_next: bool) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    expected = rendered([Message(*turn) for turn in turns], answer_next)
    assert render(messages, add_generation_prompt=answer_next) == expected


def test_tools_are_listed_in_the_system_turn() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What time is it?"}]
    text = render(messages, tools=[TOOL], add_generation_prompt=True)
    assert text.startswith(f"<|im_start|>system\nBe brief.\n<tools>\n{json.dumps(TOOL)}\n</tools><|im_end|>\n")
    assert text.count("Be brief.") == 1


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}])
def test_tool_calls_and_responses(arguments: object) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]
    text = render(messages, tools=[TOOL])
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>' in text
    assert "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n" in text
