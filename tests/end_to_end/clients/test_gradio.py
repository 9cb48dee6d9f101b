"""A chat of Gradio's in front of a running artifact, asked by Gradio's own client, as its page asks."""

from collections.abc import Iterator
from typing import Any

import pytest

QUESTION = "What is mkllm?"


@pytest.fixture
def chat(base_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The client of a chat that `gradio.load_chat` makes of the artifact's address."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio
    from gradio_client import Client

    app = gradio.load_chat(base_url, model="demo", token="none", file_types=None, api_name="chat")
    try:
        _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        yield Client(url, verbose=False)
    finally:
        app.close()


def test_a_question_is_answered_in_pieces(chat: Any) -> None:
    job = chat.submit(QUESTION, api_name="/chat")
    answer = job.result(timeout=60)
    pieces = job.outputs()
    assert "executable" in answer and len(pieces) > 3
    assert all(later.startswith(earlier) for earlier, later in zip(pieces, pieces[1:], strict=False))


def test_one_question_follows_another(chat: Any) -> None:
    assert "56" in chat.predict("What is 7 times 8?", api_name="/chat")
    assert "executable" in chat.predict(QUESTION, api_name="/chat")
