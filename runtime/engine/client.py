"""Asks the engine, for commands that run in this process; the front has its own way.

Translates the engine's errors into this program's.
"""

import json
from collections.abc import Iterator
from typing import Any

from mkllm.runtime.engine.exchange import Cut, Exchange
from mkllm.runtime.errors import EngineDied, PromptTooLong, RequestRefused, RuntimeFailure


class Client:
    """Asks one run of the engine, a question at a time. Leaving the block ends what is being generated for it."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._exchange: Exchange | None = None

    def get(self, path: str) -> Any:
        """The answer's JSON. Raises RequestRefused, PromptTooLong or EngineDied."""
        return self._whole("GET", path, b"")

    def post(self, path: str, body: object) -> Any:
        """The answer's JSON. Raises RequestRefused, PromptTooLong or EngineDied."""
        return self._whole("POST", path, json.dumps(body).encode())

    def stream(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        """The objects of a server-sent stream as they come. Raises as `post` does, also in the middle."""
        try:
            for line in self._send("POST", path, json.dumps(body).encode()).lines():
                kind, _, data = line.decode("utf-8", "replace").strip().partition(": ")
                if kind == "error":
                    raise refusal({"error": json.loads(data)})
                if kind == "data" and data != "[DONE]":
                    yield _event(json.loads(data))
        except (OSError, Cut) as error:
            raise _dead(error) from None

    def close(self) -> None:
        """End the connection, and with it what the engine is generating for it."""
        if self._exchange:
            self._exchange.close()
            self._exchange = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole(self, method: str, path: str, body: bytes) -> Any:
        try:
            return json.loads(self._send(method, path, body).read())
        except (OSError, Cut) as error:
            raise _dead(error) from None

    def _send(self, method: str, path: str, body: bytes) -> Exchange:
        self.close()
        self._exchange = Exchange(self._address, method, path, self._headers, body)
        if self._exchange.status >= 400:
            raise refusal(_parsed(self._exchange.read()))
        return self._exchange


def refusal(answer: Any) -> RuntimeFailure:
    """The engine's error object, `{"error": {…}}`, as a failure of this program."""
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(
            f"the prompt has {error.get('n_prompt_tokens')} tokens, the context only {error.get('n_ctx')}: "
            "shorten it, or give a larger --ctx-size"
        )
    message = " ".join(str(error.get("message", answer)).split())
    return RequestRefused(f"the engine refused the request: {message:.500}")


def _event(event: dict[str, Any]) -> dict[str, Any]:
    if "error" in event:
        raise refusal(event)
    return event


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _dead(error: Exception) -> EngineDied:
    return EngineDied(f"the engine ended while it answered ({type(error).__name__}): ask again")
