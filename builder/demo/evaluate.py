"""Asks the held-out questions at temperature 0 and prints how many answers are right, topic by topic.

    python -m mkllm.builder.demo.evaluate --engine PATH    starts llama.cpp's engine on demo.gguf; also compares tokens
    python -m mkllm.builder.demo.evaluate --url URL        asks an OpenAI-compatible server (URL ends in /v1)

`--write` puts the table into RESULTS.md, `--misses` prints the wrong answers. The exit code is 1 if fewer than nine in
ten are right, or if the engine's tokens differ from the tokenizer's.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.demo import engine as engines
from mkllm.builder.demo.heldout import FILE, Question, read
from mkllm.builder.demo.messages import Message, rendered

HERE = Path(__file__).parent
MODEL = HERE / "demo.gguf"
RESULTS = HERE / "RESULTS.md"
GOAL = 0.9
Answer = Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class Outcome:
    question: Question
    answer: str

    @property
    def right(self) -> bool:
        return self.question.right(self.answer)


def ask(question: Question, answer: Answer) -> Outcome:
    """Plays the turns with the model's own answers in between."""
    messages = [Message("system", question.system)] if question.system else []
    text = ""
    for turn in question.turns:
        messages.append(Message("user", turn))
        text = answer(messages)
        messages.append(Message("assistant", text))
    return Outcome(question, text)


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with a row for each topic and one for all."""
    lines = ["| topic | right | of | share |", "|---|---:|---:|---:|"]
    for topic in dict.fromkeys(o.question.topic for o in outcomes):
        lines.append(row(topic, [o for o in outcomes if o.question.topic == topic]))
    return "\n".join([*lines, row("all", outcomes)])


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    right = sum(o.right for o in outcomes)
    return f"| {name} | {right} | {len(outcomes)} | {share(outcomes):.0%} |"


def share(outcomes: Sequence[Outcome]) -> float:
    return sum(o.right for o in outcomes) / len(outcomes)


def tokens_that_differ(address: str, model: Path, questions: Sequence[Question]) -> list[str]:
    """Prompts for which the engine's template or tokens are not those of the training."""
    from mkllm.builder.demo import tokenizer

    own = tokenizer.from_gguf(model)
    differ = []
    for question in questions:
        messages = [Message("user", question.turns[-1])]
        text = rendered(messages, answer_next=True)
        if engines.templated(address, messages) != text or engines.tokens(address, text) != own.encode(text).ids:
            differ.append(question.turns[-1])
    return differ


def report(outcomes: Sequence[Outcome]) -> str:
    return f"""# The demo model on held-out questions

Written by `python -m mkllm.builder.demo.evaluate --write`. The questions are in `heldout.toml`. The training phrases
were written without sight of them, and a question that occurs in training by chance is drawn again. Answers at
temperature 0 through the chat template and llama.cpp, judged by the texts that a right answer must contain.

{table(outcomes)}

`demo.gguf` has {MODEL.stat().st_size:,} bytes.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--engine", type=Path)
    server.add_argument("--url")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--questions", type=Path, default=FILE, help="default: heldout.toml")
    parser.add_argument("--model", type=Path, default=MODEL, help="with --engine; default: demo.gguf")
    options = parser.parse_args()
    questions = read(options.questions)
    differ: list[str] = []
    if options.engine:
        with engines.serving(options.engine, options.model) as address:
            differ = tokens_that_differ(address, options.model, questions)
            outcomes = [ask(q, lambda m: engines.answer(f"{address}/v1", m)) for q in questions]
        print(f"tokens and template: {len(questions) - len(differ)} of {len(questions)} prompts identical")
    else:
        outcomes = [ask(q, lambda m: engines.answer(options.url, m)) for q in questions]
    print(table(outcomes))
    for outcome in outcomes if options.misses else ():
        if not outcome.right:
            print(f"\n{outcome.question.topic}: {' / '.join(outcome.question.turns)}\n  -> {outcome.answer}")
    if options.write:
        RESULTS.write_text(report(outcomes), encoding="utf-8")
    return 0 if share(outcomes) >= GOAL and not differ else 1


if __name__ == "__main__":
    sys.exit(main())
