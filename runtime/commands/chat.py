"""`chat`: a conversation in the terminal, or with lines from standard input when that is no terminal.

The engine is started first; what talks to it and reads lines is imported while it loads.
"""

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.session import Session, start_session


def run(system: str | None, history: Path | None, options: EngineOptions, kernel: str | None, logging: Logging) -> int:
    """Chat until told to stop; the exit code."""
    with start_session(replace(options, parallel=options.parallel or 1), kernel, logging, chats=True) as session:
        from mkllm.runtime.commands.talk import talk

        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        prompt = session.manifest.defaults.system_prompt if system is None else system
        if terminal:
            _greet(session)
        talk(_typed(history) if terminal else _piped(), session, prompt, terminal)
    return 0


def _greet(session: Session) -> None:
    kernel, tokens = session.engine.snapshot().kernel, session.fit.context
    print(f"{shown(session.model_id)}: {kernel}, {tokens} tokens of context; /help")
    for note in session.notes:
        print(note)


def _typed(history: Path | None) -> Iterator[str]:
    from mkllm.runtime.commands.typing import Typing

    yield from Typing(history)


def _piped() -> Iterator[str]:
    """Lines of standard input; one that ends with `\\` goes on in the next."""
    kept = ""
    for line in io.TextIOWrapper(sys.stdin.buffer, "utf-8", "replace"):
        kept += line.rstrip("\n")
        if kept.endswith("\\"):
            kept = kept[:-1] + "\n"
        else:
            yield kept
            kept = ""
    if kept:
        yield kept
