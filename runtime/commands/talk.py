"""The course of a chat: lines in, commands obeyed, questions answered; knows not where the lines come from."""

import sys
from collections.abc import Iterable, Iterator

from mkllm.runtime.ansi import dimmed
from mkllm.runtime.commands.conversation import Conversation, WrongCommand
from mkllm.runtime.commands.slash import Leave, obey
from mkllm.runtime.engine.answer import CONTINUATION_TOKENS, Figures, Piece, chat, continuation
from mkllm.runtime.engine.client import Client
from mkllm.runtime.errors import EngineDied, PromptTooLong, RequestRefused
from mkllm.runtime.session import Session


def talk(lines: Iterable[str], session: Session, system: str | None, terminal: bool) -> None:
    """Until the lines end or the user leaves. What goes wrong with one line is said, and the chat goes on."""
    conversation = Conversation(system, examples=session.manifest.defaults.messages)
    for line in lines:
        try:
            _take(line, conversation, session, terminal)
        except Leave:
            return
        except (WrongCommand, PromptTooLong, RequestRefused, EngineDied) as failure:
            if session.engine.snapshot().error:
                raise
            print(failure, file=sys.stderr, flush=True)


def _take(line: str, conversation: Conversation, session: Session, terminal: bool) -> None:
    """One line of the user's: a command, or something to answer."""
    question = obey(line, conversation, session) if line.startswith("/") else line
    if question is None or not question.strip():
        return
    conversation.ask(question)
    _answer(conversation, session, terminal)


def _answer(conversation: Conversation, session: Session, terminal: bool) -> None:
    """Print the answer as it comes. Ctrl-C ends it, and what is there of it stays in the conversation."""
    texts: list[str] = []
    figures = None
    try:
        figures = _print_answer(conversation, session, texts, terminal)
    except KeyboardInterrupt:
        if not terminal:
            raise
    finally:
        conversation.answered("".join(texts), figures)
        if texts:
            print(flush=True)


def _print_answer(
    conversation: Conversation, session: Session, texts: list[str], terminal: bool, again: bool = True
) -> Figures | None:
    """An engine that turns out to be dead when it is asked is waited for, once."""
    snapshot = session.engine.wait_ready()
    figures = None
    try:
        with Client(snapshot.address, snapshot.key) as client:
            for piece in _pieces(client, conversation, session):
                if isinstance(piece, Figures):
                    figures = piece
                else:
                    _show(piece, texts, terminal)
    except EngineDied as failure:
        now = session.engine.wait_followed(snapshot)
        if texts or not again:
            raise EngineDied(now.last_failure or str(failure)) from None
        return _print_answer(conversation, session, texts, terminal, again=False)
    return figures


def _pieces(client: Client, conversation: Conversation, session: Session) -> Iterator[Piece | Figures]:
    if session.manifest.chat_template is None:
        text = "\n".join(turn["content"] for turn in conversation.turns)
        return continuation(client, text, {"n_predict": CONTINUATION_TOKENS, **conversation.sampling})
    return chat(client, conversation.messages(), conversation.sampling)


def _show(piece: Piece, texts: list[str], terminal: bool) -> None:
    """Thoughts are dimmed; only the answer is kept."""
    if not piece.thought:
        texts.append(piece.text)
        print(piece.text, end="", flush=True)
    elif terminal:
        print(dimmed(piece.text, sys.stdout), end="", flush=True)
