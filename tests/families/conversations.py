"""Conversations with all that chat templates have to cope with; knows neither templates nor models."""

from typing import Any

CALL_ID = "a1B2c3D4e"  # nine letters and digits, as Mistral's templates demand
SYSTEM = {"role": "system", "content": "You answer in one short sentence."}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a town, <now> & later; \"°C\" or '°F'.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "Its name, such as Zürich."},
                "unit": {"type": "string", "enum": ["°C", "°F"], "description": "Of temperatures."},
                "days": {"type": "integer", "description": "How many, at most 7."},
            },
            "required": ["town"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time of day.",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "description": "Such as UTC."}},
            "required": [],
        },
    },
}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


CALLING = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": CALL_ID,
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"town": "Zürich", "days": 2}},
        }
    ],
}
ANSWERED = {"role": "tool", "tool_call_id": CALL_ID, "name": "get_weather", "content": '{"sky": "clear", "°C": 21.5}'}
LONG = " ".join(f"Sentence {number} of a long text, which says nothing new." for number in range(1, 200))

# White space for Python, and so for `trim` in transformers, that is none in ASCII.
WIDE = "\u2003\u00a0"
# Arguments of calls are objects here, as transformers documents them; OpenAI's API has them as JSON text.
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "system": {"messages": [SYSTEM, user("What is a file?")]},
    "no system": {"messages": [user("What is a file?")]},
    "several turns": {
        "messages": [
            SYSTEM,
            user("Hello!"),
            assistant("Hello, how can I help?"),
            user("What is 2 + 2?"),
            assistant("4."),
            user("And doubled?"),
        ]
    },
    "tools": {"messages": [SYSTEM, user("How is the weather in Zürich?")], "tools": [WEATHER, CLOCK]},
    "a call and its result": {
        "messages": [SYSTEM, user("How is the weather in Zürich?"), CALLING, ANSWERED],
        "tools": [WEATHER, CLOCK],
    },
    "assistant last": {
        "messages": [SYSTEM, user("Name the primary colours."), assistant("The primary colours are red,")],
        "continues": True,
    },
    "white space and Unicode": {
        "messages": [
            {"role": "system", "content": "\n  Be kind. \n"},
            user("  \tGrüße, 世界! 👩‍💻 e\u0301\r\n\n"),
            assistant("\n Gern. \n"),
            user("\tWeiter…\n"),
        ]
    },
    "empty system": {"messages": [{"role": "system", "content": ""}, user("What is a file?")]},
    "long": {"messages": [SYSTEM, user(LONG), assistant(LONG), user("Sum it up.")]},
    "marks": {
        "messages": [
            SYSTEM,
            user(
                "{{ messages }} {% if x %} {# no #} {%- raw -%} \"double\" 'single' `back` \\n \\\\ <b>&amp;</b> $1 %s"
            ),
            assistant("{{ '}}' }} %} #}"),
            user("</s> is how some end; [INST] and ### Response: are others'."),
        ]
    },
    "wide spaces": {"messages": [user(WIDE + "What is a file?" + WIDE), assistant(WIDE + "Data."), user("And two?")]},
}


def merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system prompt at the beginning of the first message, as the engine has it where a template takes none."""
    system, first, *others = messages
    return [{**first, "content": system["content"] + "\n" + first["content"]}, *others]
