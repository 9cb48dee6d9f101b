"""The answer to one prompt, printed as it comes or as one JSON object.

The answer goes to standard output and nothing else does; thoughts and notes go to standard error.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mkllm.runtime.ansi import dimmed
from mkllm.runtime.commands.conversation import opening
from mkllm.runtime.commands.media import Media
from mkllm.runtime.commands.prompt import Prompt, WrongPrompt
from mkllm.runtime.engine.answer import CONTINUATION_TOKENS, Figures, Piece, chat, continuation
from mkllm.runtime.engine.client import Client
from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.errors import EngineDied
from mkllm.runtime.session import Session
from mkllm.runtime.streams import write_utf8


@dataclass(frozen=True)
class Answer:
    """A whole answer, with the seconds from the start of the command to readiness and to the first piece."""

    text: str
    thoughts: str
    figures: Figures
    ready_seconds: float
    first_seconds: float


def reply(prompt: Prompt, session: Session, bounded: bool, started: float) -> None:
    """Wait for the engine, ask it, print. `bounded`: the tokens were limited; `started`: on the monotonic clock.

    An engine that dies before anything of its answer was printed is followed by the next one, which is asked again.
    """
    printed: list[Piece] = []
    answer = None
    while answer is None:
        snapshot = session.engine.wait_ready()
        ready = time.monotonic() - started
        try:
            with Client(snapshot.address, snapshot.key) as client:
                pieces = _ask(client, session, prompt, bounded)
                answer = _take(pieces, None if prompt.json else printed, started, ready)
        except EngineDied as failure:
            _expect_another(session, snapshot, failure, bool(printed))
    if prompt.json:
        write_utf8(json.dumps(as_object(answer, session, snapshot), ensure_ascii=False) + "\n")
    elif not answer.text.endswith("\n"):
        write_utf8("\n")
    if answer.figures.finish == "length":
        note(f"the answer was cut after {answer.figures.generated_tokens} tokens")


def as_object(answer: Answer, session: Session, snapshot: Snapshot) -> dict[str, object]:
    """What `--json` prints."""
    figures = answer.figures
    return {
        "text": answer.text,
        **({"thoughts": answer.thoughts} if answer.thoughts else {}),
        "finish_reason": figures.finish,
        "tokens": {"prompt": figures.prompt_tokens, "generated": figures.generated_tokens},
        "timings": {
            "ready_seconds": round(answer.ready_seconds, 4),
            "first_token_seconds": round(answer.first_seconds, 4),
            "prompt_seconds": round(figures.prompt_seconds, 4),
            "generation_seconds": round(figures.generation_seconds, 4),
        },
        "model": session.model_id,
        "kernel": snapshot.kernel,
        "reason": snapshot.reason,
        "context": session.fit.context,
    }


def note(text: str) -> None:
    """Something a person should know, beside the answer."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _expect_another(session: Session, old: Snapshot, failure: EngineDied, printed: bool) -> None:
    """Return when there is another engine to ask, else raise what happened to the old one."""
    now = session.engine.wait_followed(old)
    if now.error:
        raise now.error from None
    if printed or now.restarts == old.restarts:
        raise EngineDied(now.last_failure or str(failure)) from None
    note(f"{now.last_failure}; asked again with {now.kernel}")


def _ask(client: Client, session: Session, prompt: Prompt, bounded: bool) -> Iterator[Piece | Figures]:
    if session.manifest.chat_template is None:
        told = [("--system", prompt.system), ("--image", prompt.images), ("--audio", prompt.sounds)]
        if names := [name for name, value in told if value not in (None, ())]:
            raise WrongPrompt(
                f"this model has no chat template, so {names[0]} has no place in its prompt: leave it out"
            )
        note("this model has no chat template: it continues the text instead of answering it")
        return continuation(client, prompt.text, {} if bounded else {"n_predict": CONTINUATION_TOKENS})
    defaults = session.manifest.defaults
    system = defaults.system_prompt if prompt.system is None else prompt.system
    content = Media(prompt.images, prompt.sounds).content(prompt.text)
    return chat(client, [*opening(system, defaults.messages), {"role": "user", "content": content}], {})


def _take(pieces: Iterator[Piece | Figures], printed: list[Piece] | None, started: float, ready: float) -> Answer:
    """Collect the answer, and print it as it comes: what is printed is added to `printed`. None: nothing is."""
    texts: dict[bool, list[str]] = {False: [], True: []}
    first = None
    figures = Figures("stop", 0, 0, 0.0, 0.0)
    for piece in pieces:
        if isinstance(piece, Figures):
            figures = piece
            continue
        first = first or time.monotonic()
        if printed is not None:
            printed.append(piece)
            _show(piece, bool(texts[True]) and not texts[False])
        texts[piece.thought].append(piece.text)
    return Answer("".join(texts[False]), "".join(texts[True]), figures, ready, (first or time.monotonic()) - started)


def _show(piece: Piece, thinking: bool) -> None:
    """Thoughts are shown only to a person who watches; `thinking`: so far there were only thoughts."""
    watched = sys.stderr.isatty()
    if piece.thought and watched:
        print(dimmed(piece.text, sys.stderr), end="", file=sys.stderr, flush=True)
    elif not piece.thought:
        if thinking and watched:
            print(file=sys.stderr, flush=True)
        write_utf8(piece.text)
