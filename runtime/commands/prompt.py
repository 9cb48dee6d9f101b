"""`-p`: one prompt, its answer as it comes, and the end; never imports the front.

The answer goes to standard output and nothing else does; thoughts and notes go to standard error.
"""

import json
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

from mkllm.runtime.engine.answer import Figures, Piece, chat, continuation
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.client import Client
from mkllm.runtime.engine.supervisor import Snapshot
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.session import Logging, Session, start_session

STDIN = "-"
QUIET_SECONDS = 2.0
CONTINUATION_TOKENS = 256


class WrongPrompt(RuntimeFailure):
    """There is nothing to answer, or an option has no meaning with this model."""

    exit_code = 2


@dataclass(frozen=True)
class Prompt:
    """What was asked. `text` `-` is standard input; `system` None means the maker's."""

    text: str
    system: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole answer, with the seconds from the start of this command to readiness and to the first piece."""

    text: str
    thoughts: str
    figures: Figures
    ready_seconds: float
    first_seconds: float


def run(prompt: Prompt, options: EngineOptions, kernel: str | None, logging: Logging) -> int:
    """Answer `prompt`; the exit code. Raises a RuntimeFailure for everything that goes wrong."""
    started = time.monotonic()
    options = replace(options, parallel=options.parallel or 1, warm_up=False)
    with start_session(options, kernel, logging) as session:
        _note(session.context.note)
        text = read_text(prompt.text, sys.stdin.buffer)
        snapshot = session.engine.wait_ready()
        ready = time.monotonic() - started
        with Client(snapshot.address, snapshot.key) as client:
            pieces = _ask(client, session, prompt, text, options.sampling.get("n_predict"))
            answer = _take(pieces, prompt.json, started, ready)
        if prompt.json:
            _print(json.dumps(as_object(answer, session, snapshot), ensure_ascii=False) + "\n")
        elif not answer.text.endswith("\n"):
            _print("\n")
        if answer.figures.finish == "length":
            _note(f"the answer was cut after {answer.figures.generated_tokens} tokens")
    return 0


def read_text(text: str, source: IO[bytes]) -> str:
    """The prompt: `text`, or standard input for `-`; text piped in beside a prompt follows it after an empty line."""
    if text == STDIN:
        text = _piped(source)
    elif _is_piped(source):
        text = "\n\n".join(part for part in (text, _piped(source)) if part)
    if not text.strip():
        raise WrongPrompt('the prompt is empty: give it some text, as in -p "What is a GGUF file?"')
    return text


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
        "context": session.context.tokens,
    }


def _ask(client: Client, session: Session, prompt: Prompt, text: str, tokens: object) -> Iterator[Piece | Figures]:
    if session.manifest.model.chat_template is None:
        if prompt.system is not None:
            raise WrongPrompt("this model has no chat template, so --system has no place in its prompt: leave it out")
        _note("this model has no chat template: it continues the text instead of answering it")
        return continuation(client, text, {} if tokens else {"n_predict": CONTINUATION_TOKENS})
    system = session.manifest.defaults.system_prompt if prompt.system is None else prompt.system
    messages = [{"role": "user", "content": text}]
    return chat(client, [{"role": "system", "content": system}, *messages] if system else messages, {})


def _take(pieces: Iterator[Piece | Figures], silent: bool, started: float, ready: float) -> Answer:
    """Print the answer as it comes, unless `silent`, and collect it."""
    texts: dict[bool, list[str]] = {False: [], True: []}
    first = None
    figures = Figures("stop", 0, 0, 0.0, 0.0)
    show_thoughts = not silent and sys.stderr.isatty()
    for piece in pieces:
        if isinstance(piece, Figures):
            figures = piece
            continue
        first = first or time.monotonic()
        texts[piece.thought].append(piece.text)
        if piece.thought and show_thoughts:
            print(f"\x1b[2m{piece.text}\x1b[0m", end="", file=sys.stderr, flush=True)
        elif not piece.thought and not silent:
            _print(piece.text)
    return Answer("".join(texts[False]), "".join(texts[True]), figures, ready, (first or time.monotonic()) - started)


def _is_piped(source: IO[bytes]) -> bool:
    """Whether standard input is a pipe or a file, so something that was put there on purpose."""
    try:
        mode = os.fstat(source.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _piped(source: IO[bytes]) -> str:
    if not select.select([source], [], [], QUIET_SECONDS)[0]:
        _note("reading standard input until it ends (Ctrl-D); '< /dev/null' leaves it out")
    return source.read().decode("utf-8", "replace")


def _print(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _note(text: str | None) -> None:
    if text:
        print(f"note: {text}", file=sys.stderr, flush=True)
