"""`chat`: a conversation in the terminal, or with lines from standard input when that is no terminal."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mkllm.runtime.commands.conversation import Conversation, WrongCommand
from mkllm.runtime.commands.slash import Leave, obey
from mkllm.runtime.engine.answer import Figures, Piece, chat, continuation
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.client import Client
from mkllm.runtime.errors import EngineDied, PromptTooLong, RequestRefused
from mkllm.runtime.session import Logging, Session, start_session

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def run(system: str | None, history: Path | None, options: EngineOptions, kernel: str | None, logging: Logging) -> int:
    """Chat until told to stop; the exit code."""
    with start_session(replace(options, parallel=options.parallel or 1), kernel, logging) as session:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        lines = _typed(history) if terminal else _piped()
        talk = Conversation(session.manifest.defaults.system_prompt if system is None else system)
        if terminal:
            kernel_used, tokens = session.engine.snapshot().kernel, session.context.tokens
            print(f"{session.model_id}: {kernel_used}, {tokens} tokens of context; /help lists commands")
        for line in lines:
            try:
                _take(line, talk, session, terminal)
            except Leave:
                break
            except (WrongCommand, PromptTooLong, RequestRefused, EngineDied) as failure:
                print(f"{failure}", file=sys.stderr, flush=True)
    return 0


def _take(line: str, talk: Conversation, session: Session, terminal: bool) -> None:
    """One line of the user's: a command, or something to answer."""
    question = obey(line, talk, session) if line.startswith("/") else line
    if question is None or not question.strip():
        return
    talk.ask(question)
    _answer(talk, session, terminal)


def _answer(talk: Conversation, session: Session, terminal: bool) -> None:
    """Print the answer as it comes. Ctrl-C ends it, and what is there of it stays in the conversation."""
    texts: list[str] = []
    figures = None
    try:
        snapshot = session.engine.wait_ready()
        with Client(snapshot.address, snapshot.key) as client:
            for piece in _pieces(client, talk, session):
                if isinstance(piece, Figures):
                    figures = piece
                else:
                    _show(piece, texts, terminal)
    except KeyboardInterrupt:
        if not terminal:
            raise
    finally:
        talk.answered("".join(texts), figures)
        if texts:
            print(flush=True)


def _pieces(client: Client, talk: Conversation, session: Session) -> Iterator[Piece | Figures]:
    if session.manifest.model.chat_template is None:
        text = "\n".join(turn["content"] for turn in talk.turns)
        return continuation(client, text, {"n_predict": 256, **talk.sampling})
    return chat(client, talk.messages(), talk.sampling)


def _show(piece: Piece, texts: list[str], terminal: bool) -> None:
    if not piece.thought:
        texts.append(piece.text)
        print(piece.text, end="", flush=True)
    elif terminal:
        print(f"{DIM}{piece.text}{PLAIN}", end="", flush=True)


def _typed(history: Path | None) -> Iterator[str]:
    """Lines from the terminal. Enter sends, Alt-Enter or a `\\` at the end goes on in a new line; Ctrl-D ends."""
    from mkllm.runtime.commands.typing import Typing

    yield from Typing(history)


def _piped() -> Iterator[str]:
    """Lines of standard input; one that ends with `\\` goes on in the next."""
    kept = ""
    for line in sys.stdin:
        kept += line.rstrip("\n")
        if kept.endswith("\\"):
            kept = kept[:-1] + "\n"
        else:
            yield kept
            kept = ""
    if kept:
        yield kept
