"""A message of a conversation, and the text that the chat template makes of several.

`rendered` writes what `chat_template.jinja` writes for the same messages; a test compares the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass

START, END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


@dataclass(frozen=True)
class Message:
    role: str
    content: str


def rendered(messages: Iterable[Message], answer_next: bool = False) -> str:
    """The conversation as the model sees it; `answer_next` opens the assistant's turn."""
    text = "".join(f"{START}{m.role}\n{m.content}{END}\n" for m in messages)
    return f"{text}{START}assistant\n" if answer_next else text
