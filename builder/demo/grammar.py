"""Phrases with alternatives, expanded at random.

`[a|b|]` picks one alternative (they nest), `{name}` picks from the named slot. A slot in capitals is bound: its value
is remembered, so that the answer to a question can repeat it. This file knows nothing of the topics.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BOUND = re.compile(r"\{([A-Z]+)\}")
TOKENS = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")


@dataclass
class Expansion:
    """One run of the grammar: the slots it may use and the values that it bound."""

    slots: Mapping[str, Sequence[str]]
    rng: random.Random
    bound: dict[str, str] = field(default_factory=dict)

    def phrase(self, template: str) -> str:
        """One phrase of the template, with spaces made single."""
        text = self._choice(TOKENS.findall(template), 0)[0]
        return " ".join(text.split())

    def _choice(self, tokens: list[str], at: int) -> tuple[str, int]:
        """Expands alternatives from `at` to the closing bracket; returns the text and the position after it."""
        spans, start, depth = [], at, 0
        while at < len(tokens) and not (tokens[at] == "]" and depth == 0):
            depth += {"[": 1, "]": -1}.get(tokens[at], 0)
            if tokens[at] == "|" and depth == 0:
                spans.append((start, at))
                start = at + 1
            at += 1
        spans.append((start, at))
        return self._sequence(tokens, *self.rng.choice(spans)), at + 1

    def _sequence(self, tokens: list[str], at: int, end: int) -> str:
        parts = []
        while at < end:
            if tokens[at] == "[":
                text, at = self._choice(tokens, at + 1)
                parts.append(text)
                continue
            parts.append(self._slot(tokens[at][1:-1]) if tokens[at].startswith("{") else tokens[at])
            at += 1
        return "".join(parts)

    def _slot(self, name: str) -> str:
        value = self._choice(TOKENS.findall(self.rng.choice(self.slots[name])), 0)[0]
        return self.bound.setdefault(name, value) if name.isupper() else value

    def answer(self, template: str, defaults: Mapping[str, str]) -> str:
        """The answer with bound slots filled in, and defaults where the question bound nothing."""
        return BOUND.sub(lambda m: self.bound.get(m[1], defaults.get(m[1], m[0])), template)
