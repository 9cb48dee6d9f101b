"""The held-out questions, with what a right answer must contain and must not.

`heldout.toml` was written when the training phrases were finished and measures the model; `practice.toml` was looked at
while they were written. Training reads only the prompts of both, to keep clear of them.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "heldout.toml"
PRACTICE = Path(__file__).parent / "practice.toml"


@dataclass(frozen=True)
class Question:
    """The turns lead to an answer; only the answer to the last one is judged."""

    topic: str
    turns: tuple[str, ...]
    system: str
    contains: tuple[str, ...]
    any_of: tuple[str, ...]
    lacks: tuple[str, ...]

    def right(self, answer: str) -> bool:
        """True if the answer has every text of `contains`, one of `any_of` and none of `lacks`, in any casing."""
        low = answer.lower()
        return (
            all(text.lower() in low for text in self.contains)
            and (not self.any_of or any(text.lower() in low for text in self.any_of))
            and not any(text.lower() in low for text in self.lacks)
        )


def read(file: Path = FILE) -> list[Question]:
    """All held-out questions in the order of the file."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["question"]
    return [
        Question(
            topic=entry["topic"],
            turns=(entry["ask"],) if isinstance(entry["ask"], str) else tuple(entry["ask"]),
            system=entry.get("system", ""),
            contains=tuple(entry.get("contains", ())),
            any_of=tuple(entry.get("any_of", ())),
            lacks=tuple(entry.get("lacks", ())),
        )
        for entry in entries
    ]


def prompts() -> Iterator[str]:
    """The question of every entry of both files that has only one; turns of a chat are common phrases."""
    for question in (*read(FILE), *read(PRACTICE)):
        if len(question.turns) == 1:
            yield question.turns[0]


def normal(text: str) -> str:
    """The text without casing, punctuation at word ends and double spaces: what makes two prompts the same."""
    text = text.lower().replace("’", "'")
    return " ".join(re.sub(r"[?!.,;:\"]+(?=\s|$)", "", text).split())
