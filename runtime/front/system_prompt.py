"""The maker's system prompt in requests that bring none of their own; knows the shapes of three APIs and no HTTP.

The chat page gets the prompt from the engine's settings, where people can see and change it. An API has no such place.
"""

import json
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any], str], bool]
SYSTEM = ("system", "developer")


def applies(method: str, path: str) -> bool:
    """Whether requests of that kind may carry a system prompt."""
    return method == "POST" and path in CHANGES


def with_system_prompt(path: str, body: bytes, prompt: str) -> bytes:
    """The body with `prompt`, or the same body when it has a prompt of its own or is not what this API takes."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(asked, dict) or not CHANGES[path](asked, prompt):
        return body
    return json.dumps(asked, separators=(",", ":")).encode()


def _chat(asked: dict[str, Any], prompt: str) -> bool:
    """OpenAI's chat completions: the first of `messages`."""
    messages = asked.get("messages")
    if not isinstance(messages, list) or _has_system(messages):
        return False
    asked["messages"] = [{"role": "system", "content": prompt}, *messages]
    return True


def _messages(asked: dict[str, Any], prompt: str) -> bool:
    """Anthropic's messages: `system`."""
    if asked.get("system") is not None or not isinstance(asked.get("messages"), list) or _has_system(asked["messages"]):
        return False
    asked["system"] = prompt
    return True


def _responses(asked: dict[str, Any], prompt: str) -> bool:
    """OpenAI's responses: `instructions`."""
    given = asked.get("input")
    if asked.get("instructions") is not None or given is None or (isinstance(given, list) and _has_system(given)):
        return False
    asked["instructions"] = prompt
    return True


def _has_system(messages: list[Any]) -> bool:
    return any(isinstance(message, dict) and message.get("role") in SYSTEM for message in messages)


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
