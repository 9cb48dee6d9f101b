"""Chats of Gradio's in front of a running artifact, asked by Gradio's own client, as its page asks."""

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest

QUESTION = "What is mkllm?"


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio tells nobody about itself."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


@contextlib.contextmanager
def launched(app: Any) -> Iterator[Any]:
    """The client of a chat."""
    from gradio_client import Client

    try:
        _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, show_error=True, server_name="127.0.0.1")
        yield Client(url, verbose=False)
    finally:
        app.close()


def text_of(content: Any) -> str:
    """What a message of the history says, in either form that Gradio gives it."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def test_gradios_own_chat_answers_in_pieces(base_url: str) -> None:
    import gradio

    with launched(gradio.load_chat(base_url, "demo", "none", file_types=None, api_name="chat")) as chat:
        job = chat.submit(QUESTION, api_name="/chat")
        answer, pieces = job.result(timeout=60), job.outputs()
    assert "executable" in answer and len(pieces) > 3
    assert all(later.startswith(earlier) for earlier, later in zip(pieces, pieces[1:], strict=False))


def test_a_chat_goes_on(base_url: str) -> None:
    import gradio

    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60)
    asked: list[Any] = []

    def answer(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
        before = [{"role": each["role"], "content": text_of(each["content"])} for each in history]
        asked.append([*before, {"role": "user", "content": message}])
        text = ""
        for chunk in client.chat.completions.create(model="demo", messages=asked[-1], temperature=0, stream=True):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            yield text

    with launched(gradio.ChatInterface(answer, api_name="chat")) as chat:
        first = chat.predict("What is 7 times 8?", api_name="/chat")
        second = chat.predict(QUESTION, api_name="/chat")
    assert "56" in first and "executable" in second
    assert [text_of(message["content"]) for message in asked[-1]] == ["What is 7 times 8?", first, QUESTION]
