"""A conversation: its messages and what can be done to them; knows no terminal and no engine."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mkllm.runtime.artifact.manifest import Message
from mkllm.runtime.engine.answer import Figures
from mkllm.runtime.engine.arguments import SAMPLING
from mkllm.runtime.errors import RuntimeFailure

ROLES = ("user", "assistant")


def opening(system: str | None, examples: Sequence[Message]) -> list[dict[str, str]]:
    """The messages that come before the user's first one."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": message.role, "content": message.content} for message in examples]


class WrongCommand(RuntimeFailure):
    """A chat command that cannot be carried out; the chat goes on."""

    exit_code = 2


@dataclass
class Conversation:
    """`turns` alternate between user and assistant; `figures` are those of the last answer.

    `examples` are the maker's: the model sees them before the turns.
    """

    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)
    sampling: dict[str, float | int] = field(default_factory=dict)
    figures: Figures | None = None
    examples: Sequence[Message] = ()

    def messages(self) -> list[dict[str, str]]:
        """What the engine is sent."""
        return [*opening(self.system, self.examples), *self.turns]

    def ask(self, text: str) -> None:
        """The user says something."""
        self.turns.append({"role": "user", "content": text})

    def answered(self, text: str, figures: Figures | None) -> None:
        """The model has answered, maybe not to the end (then `figures` is None); an empty answer is taken back."""
        if text:
            self.turns.append({"role": "assistant", "content": text})
            self.figures = figures or self.figures
        else:
            self.turns.pop()

    def last_question(self) -> str:
        """Take back the last question with its answer and return it. Raises WrongCommand when there is none."""
        while self.turns:
            turn = self.turns.pop()
            if turn["role"] == "user":
                return turn["content"]
        raise WrongCommand("nothing has been asked yet")

    def set(self, name: str, value: str) -> None:
        """A sampling value for the answers to come. Raises WrongCommand for an unknown name or no number."""
        if name not in SAMPLING:
            raise WrongCommand(f"{name!r} cannot be set: known are {', '.join(sorted(SAMPLING))}")
        try:
            number = int(value) if value.lstrip("+-").isdigit() else float(value)
            if not math.isfinite(number):
                raise ValueError(value)
        except ValueError:
            raise WrongCommand(f"{value!r} is no number, as in: /set {name} 0.2") from None
        self.sampling[name] = number

    def save(self, file: Path) -> None:
        """Write system prompt, turns and sampling as JSON. Raises WrongCommand when that fails."""
        text = json.dumps(
            {"system": self.system, "turns": self.turns, "sampling": self.sampling}, indent=2, ensure_ascii=False
        )
        try:
            file.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise WrongCommand(f"{str(file)!r} cannot be written ({error.strerror}): choose another name") from None

    def load(self, file: Path) -> None:
        """Take over what `save` wrote. Raises WrongCommand, and changes nothing, for anything else."""
        try:
            data = json.loads(file.read_text("utf-8"))
            system, turns, sampling = data["system"], data["turns"], data["sampling"]
            if not _is_conversation(system, turns, sampling):
                raise ValueError("not a conversation")
        except OSError as error:
            raise WrongCommand(f"{str(file)!r} cannot be read ({error.strerror}): check its name") from None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise WrongCommand(f"{str(file)!r} is not a conversation that /save wrote") from None
        self.system, self.turns, self.sampling, self.figures = system, turns, sampling, None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_conversation(system: object, turns: object, sampling: object) -> bool:
    return (
        isinstance(system, str | None)
        and isinstance(turns, list)
        and all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in turns)
        and isinstance(sampling, dict)
        and all(name in SAMPLING and _is_number(value) for name, value in sampling.items())
    )
