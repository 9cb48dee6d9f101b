"""A message that ends a conversation is continued as the template writes it, not as an answer begins."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

BEGUN = "They are red,"
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
OPEN = THINKING.replace("{{ m.content", "{% if m.role == 'assistant' %}<think>\n{% endif %}{{ m.content")
TWICE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ m.content }}<|end|>{% endfor %}"
SHORT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content[:3] }}<|end|>{% endfor %}"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: str) -> dict[str, str]:
    return {"role": "assistant", "content": text, **more}


@pytest.fixture
def prompt(mkllm: Path, tmp_path: Path, serve: Any) -> Any:
    """`prompt(template, message…, **settings)`: what the engine makes of them."""

    def prompting(template: str, *messages: dict[str, str], **settings: Any) -> str:
        words = [mkllm, "build", "demo", "-o", tmp_path / "out", "--force", "--chat-template", template]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        with serve(tmp_path / "out", "--no-tune") as server:
            body = json.dumps({"messages": messages, **settings}).encode()
            request = urllib.request.Request(f"{server.url}/apply-template", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                text: str = json.load(answer)["prompt"]
                return text

    return prompting


def test_what_the_template_writes_before_it(prompt: Any) -> None:
    text = prompt("llama2", user("Name colours."), assistant(BEGUN))
    assert text.endswith(f"Name colours. [/INST] {BEGUN}")


def test_a_thinking_model_does_not_think_before_it(prompt: Any) -> None:
    assert prompt(THINKING, user("Name colours."), assistant(BEGUN)).endswith(f"<|end|><|assistant|>{BEGUN}")


def test_white_space_of_all_kinds_is_trimmed(prompt: Any) -> None:
    text = prompt("llama3", user("\u2003Name colours.\u00a0"), assistant(f"\u3000{BEGUN} "))
    assert "\n\nName colours.<|eot_id|>" in text and text.endswith(f"assistant<|end_header_id|>\n\n{BEGUN}")


def test_an_empty_message_is_as_none(prompt: Any) -> None:
    assert prompt(THINKING, user("Hi"), assistant(" ")) == prompt(THINKING, user("Hi"))


def test_a_message_in_parts(prompt: Any) -> None:
    parts = [{"type": "text", "text": BEGUN}]
    assert prompt("llama2", user("Hi"), {"role": "assistant", "content": parts}).endswith(f"Hi [/INST] {BEGUN}")


@pytest.mark.parametrize("template", [OPEN, TWICE, SHORT])
def test_templates_of_which_it_would_be_another_answer(template: str, prompt: Any) -> None:
    """A thought is left open, the text is there twice, or a part of it: llama.cpp's own way is left."""
    assert prompt(template, user("Hi"), assistant(BEGUN)).endswith(BEGUN)


def test_thoughts_are_continued_as_such(prompt: Any) -> None:
    settings = {"continue_final_message": "reasoning_content", "add_generation_prompt": False}
    text = prompt(THINKING, user("Hi"), assistant("", reasoning_content="Well, "), **settings)
    assert text.endswith("<think>\nWell, ") or text.endswith("<think>Well, ")
    assert "<think>" in prompt(THINKING, user("Hi"), assistant(BEGUN), **settings)


def test_a_system_prompt_is_not_what_the_model_said(prompt: Any) -> None:
    without = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    text = prompt(without, {"role": "system", "content": "Be brief."}, assistant(BEGUN))
    assert "<|assistant|>Be brief." not in text and text.endswith(BEGUN)
