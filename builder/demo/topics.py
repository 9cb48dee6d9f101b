"""The topics of the demo model, read from the TOML files in `topics/`.

An intent is one thing that somebody may want to know, with the ways to ask for it and the one answer. This file reads
and checks; it draws nothing at random.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "topics"
CHAT_FILES = ("smalltalk", "refusals")
QUESTION_FILES = ("about", "build", "files", "kits", "artifact", "serve", "trouble", *CHAT_FILES)


@dataclass(frozen=True)
class Intent:
    name: str
    topic: str
    weight: float
    ask: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Follow:
    """A question that only makes sense after one of the named intents; its answer is another intent's."""

    after: tuple[str, ...]
    ask: tuple[str, ...]
    intent: str


@dataclass(frozen=True)
class Topics:
    intents: dict[str, Intent]
    follows: tuple[Follow, ...]
    systems: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    synonyms: dict[str, list[str]]
    noise: tuple[str, ...]
    slots: dict[str, list[str]]
    defaults: dict[str, str]


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def more_ways() -> dict[str, tuple[str, ...]]:
    """The further ways to ask for each intent, of all `natural*.toml`."""
    ways: dict[str, tuple[str, ...]] = {}
    for file in sorted(FOLDER.glob("natural*.toml")):
        for name, asks in read(file.stem)["more"].items():
            ways[name] = (*ways.get(name, ()), *asks)
    return ways


@cache
def load() -> Topics:
    """All topics; a follow-up that names an unknown intent is an error."""
    slots, more = read("slots"), more_ways()
    intents = {
        entry["name"]: Intent(
            entry["name"],
            topic,
            entry.get("weight", 1.0),
            (*entry["ask"], *more.pop(entry["name"], ())),
            entry["answer"],
        )
        for topic in QUESTION_FILES
        for entry in read(topic)["intent"]
    }
    follows = tuple(Follow(tuple(f["after"]), tuple(f["ask"]), f["intent"]) for f in read("follow")["follow"])
    for name in (*more, *(name for follow in follows for name in (*follow.after, follow.intent))):
        if name not in intents:
            raise KeyError(f"a natural*.toml or follow.toml names the intent {name!r}, which no topic defines")
    context = read("context")
    return Topics(
        intents=intents,
        follows=follows,
        systems=tuple(read("system")["prompts"]),
        before=tuple(context["before"]),
        after=tuple(context["after"]),
        synonyms=read("synonyms")["words"],
        noise=tuple(read("noise")["words"]),
        slots=slots["slots"] | read("nouns")["slots"],
        defaults=slots["defaults"],
    )
