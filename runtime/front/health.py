"""What /health says: llama-server's own answer, and which kernel serves and why; knows no HTTP."""

from collections.abc import Sequence
from typing import Any

from mkllm.runtime.engine.supervisor import Snapshot


def health(model: str, context: int, notes: Sequence[str], snapshot: Snapshot) -> tuple[int, dict[str, Any]]:
    """Status and body. 200 once requests are served at once, 503 before, and when the engine is lost."""
    facts: dict[str, Any] = {
        "model": model,
        "kernel": snapshot.kernel,
        "reason": snapshot.reason,
        "context": context,
        "notes": list(notes),
        "engine": {"restarts": snapshot.restarts, "last_failure": snapshot.last_failure},
    }
    if snapshot.phase == "ready":
        return 200, {"status": "ok", **facts}
    if snapshot.phase == "loading":
        error = {"message": "Loading model", "type": "unavailable_error", "code": 503}
        return 503, {"status": "loading", "progress": round(snapshot.progress, 4), "error": error, **facts}
    error = {"message": str(snapshot.error or "the engine was stopped"), "type": "unavailable_error", "code": 503}
    return 503, {"status": snapshot.phase, "error": error, **facts}
