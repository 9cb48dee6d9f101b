"""`--sign`: has the maker's own tool sign a Windows program, and sees that it is still the artifact of before."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mkllm.builder import process
from mkllm.builder.errors import ToolFailed
from mkllm.runtime.artifact.draft import Draft
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import RuntimeFailure

FILE, SIGNED = "{file}", "{signed}"


@dataclass(frozen=True)
class Signing:
    """The tool's command line in words, of which one has FILE in it: the program to sign.

    Where there is SIGNED too, the tool writes another file under that name; else it changes the program in place.
    """

    words: tuple[str, ...]

    @classmethod
    def parse(cls, command: str) -> "Signing":
        """Split as a shell would do. Raises ValueError, with a reason, for what is no such command line."""
        words = tuple(shlex.split(command))
        if len(words) < 2 or not any(FILE in word for word in words[1:]):
            raise ValueError(f"it does not say {FILE} where the name of the program belongs")
        return cls(words)

    def sign(self, new: Draft, name: str) -> None:
        """Sign the written program; `name` is what it will be called. Raises MissingTool or ToolFailed."""
        signed = new.path.with_suffix(".signed")
        try:
            self._run(new, str(signed))
            if any(SIGNED in word for word in self.words):
                _take(new, str(signed), self.words[0])
        finally:
            signed.unlink(missing_ok=True)
        new.reopen()
        _expect_signed(new, name, self.words[0])

    def _run(self, new: Draft, signed: str) -> None:
        names = {FILE: str(new.path), SIGNED: signed}
        words: Sequence[str] = self.words
        for placeholder, path in names.items():
            words = [word.replace(placeholder, path) for word in words]
        process.run(words)


def _take(new: Draft, signed: str, tool: str) -> None:
    try:
        os.replace(signed, new.path)
    except FileNotFoundError:
        raise ToolFailed(
            f"{tool!r} ended without an error, but wrote no {SIGNED}: check the command of --sign"
        ) from None


def _expect_signed(new: Draft, name: str, tool: str) -> None:
    """The signature has to be there, and all else has to be as it was."""
    try:
        with open_artifact(new.path) as artifact:
            if not artifact.is_signed:
                raise ToolFailed(
                    f"{tool!r} ended without an error, but {name!r} is not signed: check the command of --sign"
                )
            wrong = [str(difference) for difference in verify(artifact, beside=False)]
    except RuntimeFailure as error:
        wrong = [str(error)]
    if wrong:
        raise ToolFailed(
            f"{tool!r} changed more of {name!r} than a signature does ({wrong[0]}): check the command of --sign"
        )
