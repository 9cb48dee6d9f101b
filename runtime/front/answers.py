"""The front's own answers: JSON, and errors in the shape that the caller's API has."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    503: "unavailable_error",
}
SERVER = "mkllm"
COMMON = {"Server": SERVER, "X-Content-Type-Options": "nosniff"}


def answer(status: int, body: Mapping[str, Any]) -> web.Response:
    """A JSON answer that nothing may keep."""
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", **COMMON}
    return web.Response(
        status=status, body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), headers=headers
    )


def error(status: int, message: str) -> web.Response:
    """An error of the front's own, in OpenAI's shape."""
    return answer(status, {"error": _error(status, message)})


def closing(status: int, message: str) -> web.Response:
    """The same for a request whose body will not be read: the connection cannot be used again."""
    refused = error(status, message)
    refused.force_close()
    return refused


def event(path: str, message: str) -> bytes:
    """The error as the last event of a stream, as the API of `path` words it."""
    if path.startswith("/v1/messages"):
        return _event("error", {"type": "error", "error": {"type": "api_error", "message": message}})
    if path.endswith("/responses"):
        return _event("error", {"type": "error", "code": "server_error", "message": message, "param": None})
    return _event(None, {"error": _error(503, message)})


def _error(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "type": TYPES.get(status, "server_error"), "code": status}


def _event(name: str | None, body: Mapping[str, Any]) -> bytes:
    first = f"event: {name}\n" if name else ""
    return f"{first}data: {json.dumps(body)}\n\n".encode()
