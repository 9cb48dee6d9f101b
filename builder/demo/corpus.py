"""The training conversations, the same for the same seed.

`python -m mkllm.builder.demo.corpus` prints some, to look at. A conversation is a list of messages; most have one
question, some have several, a few are long enough to fill the context.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from mkllm.builder.demo import arithmetic, tools
from mkllm.builder.demo.grammar import Expansion
from mkllm.builder.demo.heldout import normal, prompts
from mkllm.builder.demo.messages import Message
from mkllm.builder.demo.topics import CHAT_FILES, Intent, Topics, load
from mkllm.builder.demo.variation import reword, sentence, vary, with_noise, with_unknown

ARITHMETIC_SHARE = 0.25
FOLLOW_SHARE = 0.5
SYSTEM_SHARE = 0.12
REWORDED_SHARE = 0.4
CONTEXT_SHARE = 0.1
NOISE_SHARE = 0.15
UNKNOWN_SHARE = 0.12
UNKNOWN_WORDS = 6
TOOLS_SHARE = 0.012


@dataclass(frozen=True)
class Exchange:
    intent: str
    question: str
    answer: str


def conversations(seed: int, count: int) -> Iterator[list[Message]]:
    """`count` conversations, none of which holds a question of the held-out file."""
    rng = random.Random(seed)
    topics = load()
    apart = frozenset(normal(prompt) for prompt in prompts())
    for _ in range(count):
        yield tools.conversation(rng) if rng.random() < TOOLS_SHARE else conversation(topics, apart, rng)


def conversation(topics: Topics, apart: frozenset[str], rng: random.Random) -> list[Message]:
    turns = rng.choices((1, rng.randint(2, 4), rng.randint(5, 20)), (0.87, 0.12, 0.01))[0]
    messages: list[Message] = []
    if rng.random() < SYSTEM_SHARE:
        messages.append(Message("system", system(topics, rng)))
    last: Exchange | None = None
    for _ in range(turns):
        last = next_exchange(topics, last, apart, rng)
        messages += Message("user", last.question), Message("assistant", last.answer)
    return messages


def system(topics: Topics, rng: random.Random) -> str:
    """One system prompt, or two sentences of them."""
    parts = [Expansion(topics.slots, rng).phrase(rng.choice(topics.systems)) for _ in range(rng.choice((1, 1, 2)))]
    return " ".join(part[:1].upper() + part[1:] + ("" if part.endswith(".") else ".") for part in parts)


def next_exchange(topics: Topics, last: Exchange | None, apart: frozenset[str], rng: random.Random) -> Exchange:
    """The next question and answer, drawn again as long as the question is a held-out one."""
    while True:
        exchange = draw(topics, last, rng)
        if normal(exchange.question) not in apart:
            return exchange


def draw(topics: Topics, last: Exchange | None, rng: random.Random) -> Exchange:
    follows = [f for f in topics.follows if last and last.intent in f.after]
    if follows and rng.random() < FOLLOW_SHARE:
        follow = rng.choice(follows)
        return ask(topics, topics.intents[follow.intent], follow.ask, rng)
    if rng.random() < ARITHMETIC_SHARE:
        question, answer = arithmetic.question(rng)
        return Exchange("arithmetic", vary(question, rng) if rng.random() < 0.5 else question, answer)
    intents = list(topics.intents.values())
    intent = rng.choices(intents, [i.weight for i in intents])[0]
    return ask(topics, intent, intent.ask, rng)


def ask(topics: Topics, intent: Intent, templates: tuple[str, ...], rng: random.Random) -> Exchange:
    expansion = Expansion(topics.slots, rng)
    question = expansion.phrase(rng.choice(templates))
    if rng.random() < REWORDED_SHARE:
        question = reword(question, topics.synonyms, rng)
    if rng.random() < NOISE_SHARE and len(question) > 20:
        question = with_noise(question, topics.noise, rng)
    if rng.random() < UNKNOWN_SHARE and len(question.split()) >= UNKNOWN_WORDS:
        question = with_unknown(question, rng)
    if intent.topic not in CHAT_FILES and rng.random() < CONTEXT_SHARE:
        question = in_context(topics, question, rng)
    return Exchange(intent.name, vary(question, rng), expansion.answer(intent.answer, topics.defaults))


def in_context(topics: Topics, question: str, rng: random.Random) -> str:
    """The question with a sentence before or after it that changes nothing."""
    expansion = Expansion(topics.slots, rng)
    if rng.random() < 0.6:
        return f"{expansion.phrase(rng.choice(topics.before))} {question}"
    return f"{sentence(question)} {expansion.phrase(rng.choice(topics.after))}"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for messages in conversations(seed=1, count=count):
        print("\n".join(f"{m.role:>9}: {m.content}" for m in messages), end="\n\n")


if __name__ == "__main__":
    main()
