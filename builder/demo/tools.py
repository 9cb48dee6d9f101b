"""Conversations with tools: a call in the template's form, and the answer after the tool's response.

The model is too small to use tools well. It learns the form, so that a client which offers tools gets a well-formed
call with the values that the question names.
"""

import json
import random

from mkllm.builder.demo import topics
from mkllm.builder.demo.grammar import Expansion
from mkllm.builder.demo.messages import Message

FAMILIES = (
    (
        ("get_weather", "weather", "get_current_weather", "fetch_weather"),
        ("city", "location", "place"),
        "city",
        (
            "what is the weather in {}?",
            "How is the weather in {}?",
            "weather in {}",
            "What's the weather like in {}?",
            "will it rain in {}?",
            "Tell me the weather in {}.",
            "is it cold in {} today?",
            "Is it sunny in {}?",
        ),
    ),
    (
        ("get_time", "time_in", "current_time", "clock"),
        ("city", "place", "zone"),
        "city",
        (
            "what time is it in {}?",
            "What is the time in {}?",
            "time in {}",
            "tell me the time in {}",
            "how late is it in {}?",
        ),
    ),
    (
        ("search", "web_search", "lookup", "find"),
        ("query", "q", "text", "topic"),
        "thing",
        ("search for {}", "Look up {}.", "find {} for me", "please search {}", "What does the search say about {}?"),
    ),
    (
        ("get_person", "find_contact", "phone_number", "contact"),
        ("name", "person"),
        "name",
        (
            "what is the phone number of {}?",
            "Find {} in my contacts.",
            "look up the contact {}",
            "call {}",
            "who is {}?",
        ),
    ),
)
RESULTS = (
    "18 degrees|sunny|22 C and clear|rain|12:30|09:15|555 1234|nothing found|3 results|cloudy, 7 degrees|ok|done|14:45|"
    'snow|25 degrees|windy|not available|{"result": 42}|42|true'
).split("|")


def conversation(rng: random.Random) -> list[Message]:
    """One call; in a third of the cases the tool's response and the closing answer follow."""
    names, keys, slot, asks = rng.choice(FAMILIES)
    name, key = rng.choice(names), rng.choice(keys)
    value = Expansion(topics.load().slots, rng).phrase(rng.choice(topics.load().slots[slot])).title()
    call = json.dumps({"name": name, "arguments": {key: value}})
    messages = [
        Message("system", f"<tools>\n{definition(name, key, rng)}\n</tools>"),
        Message("user", rng.choice(asks).format(value)),
        Message("assistant", f"<tool_call>\n{call}\n</tool_call>"),
    ]
    if rng.random() < 0.35:
        result = rng.choice(RESULTS)
        messages.append(Message("user", f"<tool_response>\n{result}\n</tool_response>"))
        messages.append(Message("assistant", f"The tool says: {result}"))
    return messages


def definition(name: str, key: str, rng: random.Random) -> str:
    """The tool as an OpenAI client would describe it, with or without descriptions."""
    parameter = {"type": "string"} | rng.choice(({}, {}, {"description": f"The {key}"}))
    function: dict[str, object] = {"name": name}
    if rng.random() < 0.6:
        words = f"{name.replace('_', ' ')} for a {key}"
        function["description"] = rng.choice((f"Get the {key}", words, "A tool", "Look something up"))
    parameters: dict[str, object] = {"type": "object", "properties": {key: parameter}}
    if rng.random() < 0.7:
        parameters["required"] = [key]
    function["parameters"] = parameters
    return json.dumps({"type": "function", "function": function})
