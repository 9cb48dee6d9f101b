"""What the maker has conversations begin with, in requests: his system prompt where they bring none of their own, and
his example messages; knows the shapes of three APIs and no HTTP.

The chat page gets the prompt from the engine's settings, where people can see and change it. An API has no such place.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from mkllm.runtime.artifact.manifest import Message

Examples = Sequence[Message]
Change = Callable[[dict[str, Any], str | None, Examples], bool]
SYSTEM = ("system", "developer")
# The engine reads this form, too.
WIDE = re.compile("%u([0-9A-Fa-f]{4})")


def endpoint(target: str) -> str:
    """The path of a request as the engine understands it."""
    path = target.partition("#")[0].partition("?")[0]
    return unquote(WIDE.sub(lambda match: chr(int(match[1], 16)), path))


def applies(method: str, path: str) -> bool:
    """Whether requests of that kind may carry a system prompt and messages."""
    return method == "POST" and path in CHANGES


def with_opening(path: str, body: bytes, prompt: str | None, examples: Examples) -> bytes:
    """The body with `prompt`, if it has none of its own, and with `examples` behind the system prompt.

    It stays as it is when nothing is to be added, or when it is not what this API takes. A Content-Encoding has no say:
    the engine reads plain JSON whatever it is called, and what is compressed is no JSON.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(asked, dict) or not CHANGES[path](asked, prompt, examples):
        return body
    return json.dumps(asked, separators=(",", ":")).encode()


def _chat(asked: dict[str, Any], prompt: str | None, examples: Examples) -> bool:
    """OpenAI's chat completions: the first of `messages`."""
    messages = asked.get("messages")
    if not isinstance(messages, list):
        return False
    added = bool(prompt) and not _has_system(messages)
    first = [{"role": "system", "content": prompt}] if added else []
    asked["messages"] = _behind_system([*first, *messages], [_plain(message) for message in examples])
    return added or bool(examples)


def _messages(asked: dict[str, Any], prompt: str | None, examples: Examples) -> bool:
    """Anthropic's messages: `system`, and the first of `messages`."""
    messages = asked.get("messages")
    if not isinstance(messages, list):
        return False
    added = bool(prompt) and asked.get("system") is None and not _has_system(messages)
    if added:
        asked["system"] = prompt
    asked["messages"] = _behind_system(messages, [_plain(message) for message in examples])
    return added or bool(examples)


def _responses(asked: dict[str, Any], prompt: str | None, examples: Examples) -> bool:
    """OpenAI's responses: `instructions`, and the first of `input`."""
    given = asked.get("input")
    if not isinstance(given, str | list):
        return False
    added = bool(prompt) and asked.get("instructions") is None and not (isinstance(given, list) and _has_system(given))
    if added:
        asked["instructions"] = prompt
    if examples:
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        asked["input"] = _behind_system(items, [{"type": "message", **_plain(message)} for message in examples])
    return added or bool(examples)


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _behind_system(messages: list[Any], examples: list[dict[str, str]]) -> list[Any]:
    """The messages with the examples in front of the first that is no system prompt."""
    at = next((number for number, message in enumerate(messages) if not _is_system(message)), len(messages))
    return [*messages[:at], *examples, *messages[at:]]


def _has_system(messages: list[Any]) -> bool:
    return any(map(_is_system, messages))


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in SYSTEM


CHANGES: dict[str, Change] = {
    "/v1/chat/completions": _chat,
    "/chat/completions": _chat,
    "/v1/chat/completions/input_tokens": _chat,
    "/chat/completions/input_tokens": _chat,
    "/apply-template": _chat,
    "/v1/messages": _messages,
    "/v1/messages/count_tokens": _messages,
    "/v1/responses": _responses,
    "/responses": _responses,
    "/v1/responses/input_tokens": _responses,
    "/responses/input_tokens": _responses,
}
