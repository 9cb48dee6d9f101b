"""The /commands of the chat: a table of names, what they take and what they do; knows no terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.commands.conversation import Conversation, WrongCommand
from mkllm.runtime.session import Session


class Leave(Exception):
    """The user wants to leave the chat."""


@dataclass(frozen=True)
class Command:
    """`takes` names its argument, in brackets where it may be left out; `act` returns a question to ask, or None."""

    takes: str
    help: str
    act: Callable[[str, Conversation, Session], str | None]


def obey(line: str, talk: Conversation, session: Session) -> str | None:
    """Carry out `/name argument`; a question to be asked now, or None. Raises WrongCommand or Leave."""
    name, _, argument = line[1:].strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise WrongCommand(f"there is no command {'/' + name!r}: /help lists them")
    argument = argument.strip()
    if command.takes and not command.takes.startswith("[") and not argument:
        raise WrongCommand(f"/{name} takes {command.takes}")
    return command.act(argument, talk, session)


def _help(argument: str, talk: Conversation, session: Session) -> None:
    for name, command in COMMANDS.items():
        print(f"  {'/' + name + ' ' + command.takes:<22}{command.help}")
    print("  a line that ends with \\ goes on in the next; Ctrl-C stops an answer, Ctrl-D leaves")


def _system(argument: str, talk: Conversation, session: Session) -> None:
    if argument:
        talk.system = argument
    print(f"system prompt: {talk.system or 'none'}")


def _reset(argument: str, talk: Conversation, session: Session) -> None:
    talk.turns.clear()
    talk.figures = None


def _undo(argument: str, talk: Conversation, session: Session) -> None:
    talk.last_question()


def _retry(argument: str, talk: Conversation, session: Session) -> str:
    return talk.last_question()


def _save(argument: str, talk: Conversation, session: Session) -> None:
    talk.save(_file(argument))


def _load(argument: str, talk: Conversation, session: Session) -> None:
    talk.load(_file(argument))
    print(f"{len(talk.turns)} messages")


def _file(name: str) -> Path:
    """The file that is meant; `~` and `~user` are homes."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise WrongCommand(f"{name!r} names a user without a home here: write the whole path") from None


def _set(argument: str, talk: Conversation, session: Session) -> None:
    name, _, value = argument.partition(" ")
    if name:
        talk.set(name, value.strip())
    for known, number in sorted(talk.sampling.items()):
        print(f"  {known} {number}")


def _info(argument: str, talk: Conversation, session: Session) -> None:
    snapshot = session.engine.snapshot()
    model = session.manifest.model
    facts = f"{model.architecture}, {model.parameters:,} parameters, {model.quantization}"
    print(f"  model    {shown(session.model_id)}: {shown(facts)}")
    print(f"  kernel   {snapshot.kernel} ({snapshot.reason})")
    print(f"  context  {session.fit.context} tokens")
    if snapshot.pid is not None and snapshot.phase == "ready":
        import psutil

        print(f"  memory   {size(psutil.Process(snapshot.pid).memory_info().rss)}, mapped weights included")
    if snapshot.last_failure:
        print(f"  failure  {snapshot.last_failure}")


def _tokens(argument: str, talk: Conversation, session: Session) -> None:
    figures = talk.figures
    if figures is None:
        raise WrongCommand("nothing has been answered yet")
    used = figures.prompt_tokens + figures.generated_tokens
    rate = figures.generated_tokens / figures.generation_seconds if figures.generation_seconds else 0.0
    print(f"  {used} of {session.fit.context} tokens used; the last answer: {figures.generated_tokens} at {rate:.1f}/s")


def _quit(argument: str, talk: Conversation, session: Session) -> None:
    raise Leave


COMMANDS = {
    "help": Command("", "this list", _help),
    "system": Command("[TEXT]", "show or change the system prompt", _system),
    "reset": Command("", "forget the conversation", _reset),
    "retry": Command("", "answer the last question again", _retry),
    "undo": Command("", "forget the last question and its answer", _undo),
    "save": Command("FILE", "write the conversation to a file", _save),
    "load": Command("FILE", "go on with a conversation from a file", _load),
    "set": Command("[NAME VALUE]", "show or change sampling, as in /set temperature 0.2", _set),
    "info": Command("", "model, kernel, context, memory", _info),
    "tokens": Command("", "how much of the context is used", _tokens),
    "quit": Command("", "leave", _quit),
}
