"""Asks the engine over its Unix socket, for commands that run in this process; the front has its own way.

Translates the engine's errors into this program's.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

from mkllm.runtime.errors import EngineDied, PromptTooLong, RequestRefused, RuntimeFailure

CONNECT_SECONDS = 10.0


class Client:
    """One connection to one run of the engine; used by one thread. `close` may come from anywhere and ends a stream."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = _UnixConnection(address)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def get(self, path: str) -> Any:
        """The answer's JSON. Raises RequestRefused, PromptTooLong or EngineDied."""
        return self._whole("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The answer's JSON. Raises RequestRefused, PromptTooLong or EngineDied."""
        return self._whole("POST", path, body)

    def stream(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        """The objects of a server-sent stream as they come. Raises as `post` does, also in the middle."""
        try:
            response = self._send("POST", path, body)
            while line := response.readline():
                kind, _, data = line.decode("utf-8", "replace").strip().partition(": ")
                if kind == "data" and data != "[DONE]":
                    event = json.loads(data)
                    if "error" in event:
                        raise refusal(event)
                    yield event
                elif kind == "error":
                    raise refusal({"error": json.loads(data)})
        except (OSError, http.client.HTTPException) as error:
            raise _cut(error) from None

    def close(self) -> None:
        """End the connection, and with it what the engine is generating for it."""
        self._connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole(self, method: str, path: str, body: object) -> Any:
        try:
            return json.loads(self._send(method, path, body).read())
        except (OSError, http.client.HTTPException) as error:
            raise _cut(error) from None

    def _send(self, method: str, path: str, body: object) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, self._headers)
        response = self._connection.getresponse()
        if response.status >= 400:
            raise refusal(_parsed(response.read()))
        return response


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket instead of TCP."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost")
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        self.sock.connect(self._address)
        self.sock.settimeout(None)


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


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _cut(error: Exception) -> EngineDied:
    return EngineDied(f"the engine ended while it answered ({type(error).__name__}): ask again")
