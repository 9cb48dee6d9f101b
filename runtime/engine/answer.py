"""One answer of the model, piece by piece, by whichever of the engine's APIs fits it; prints nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkllm.runtime.engine.client import Client
from mkllm.runtime.errors import EngineDied

Message = Mapping[str, Any]
CONTINUATION_TOKENS = 256  # unless asked for another number: a text that is only continued may never end


@dataclass(frozen=True)
class Piece:
    """Some text of the answer, or of the thoughts before it."""

    text: str
    thought: bool = False


@dataclass(frozen=True)
class Figures:
    """What the engine counted. `finish` is `stop` or `length`; times are in seconds."""

    finish: str
    prompt_tokens: int
    generated_tokens: int
    prompt_seconds: float
    generation_seconds: float


def chat(client: Client, messages: Sequence[Message], sampling: Mapping[str, float | int]) -> Iterator[Piece | Figures]:
    """The answer to a conversation, by the model's chat template; ends with its Figures."""
    body = {**sampling, "messages": list(messages), "stream": True, "stream_options": {"include_usage": True}}
    finish = "stop"
    last: Mapping[str, Any] = {}
    for event in client.stream("/v1/chat/completions", body):
        last = event if "timings" in event else last
        for choice in event.get("choices", ()):
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta", {})
            if thought := delta.get("reasoning_content"):
                yield Piece(thought, thought=True)
            if text := delta.get("content"):
                yield Piece(text)
    last = _whole(last)
    yield _figures(finish, last["timings"], last.get("usage", {}).get("prompt_tokens"))


def continuation(client: Client, prompt: str, sampling: Mapping[str, float | int]) -> Iterator[Piece | Figures]:
    """What the model writes after `prompt`, without any template; ends with its Figures."""
    finish = "stop"
    last: Mapping[str, Any] = {}
    for event in client.stream("/completion", {**sampling, "prompt": prompt, "stream": True}):
        last = event if "timings" in event else last
        if event.get("stop"):
            finish = "length" if event.get("stop_type") == "limit" else "stop"
        if text := event.get("content"):
            yield Piece(text)
    yield _figures(finish, _whole(last)["timings"], None)


def _whole(last: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event that every answer ends with. Raises EngineDied when the stream ended without it."""
    if not last:
        raise EngineDied("the engine ended while it answered: ask again")
    return last


def _figures(finish: str, timings: Mapping[str, Any], prompt_tokens: int | None) -> Figures:
    prompt = int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0))
    return Figures(
        finish=finish,
        prompt_tokens=prompt if prompt_tokens is None else int(prompt_tokens),
        generated_tokens=int(timings.get("predicted_n", 0)),
        prompt_seconds=float(timings.get("prompt_ms", 0.0)) / 1000,
        generation_seconds=float(timings.get("predicted_ms", 0.0)) / 1000,
    )
