"""Lines that the user types in the terminal, with history and editing over several lines."""

from collections.abc import Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from mkllm.runtime.commands.slash import COMMANDS
from mkllm.runtime.errors import PermissionFailure

PROMPT = "> "


class Typing:
    """Iterates over what is typed. Nothing is kept on disk unless `history` names a file."""

    def __init__(self, history: Path | None) -> None:
        """Raises PermissionFailure when the file cannot be read and appended to."""
        kept = _kept(history) if history else InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            history=kept,
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation=lambda width, number, wrapped: "." * (width - 1) + " ",
            completer=WordCompleter([f"/{name}" for name in COMMANDS], sentence=True),
            complete_while_typing=False,
        )

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                yield self._session.prompt(PROMPT)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return


def _kept(file: Path) -> History:
    try:
        file.open("a+b").close()
    except OSError as error:
        raise PermissionFailure(
            f"the history file {str(file)!r} cannot be written ({error.strerror}): choose another"
        ) from None
    return FileHistory(str(file))


def _keys() -> KeyBindings:
    """Enter sends; after a `\\`, and with Alt, it begins a new line."""
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _continue(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
