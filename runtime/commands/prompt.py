"""`-p`: one prompt, its answer as it comes, and the end; never imports the front.

The engine is started first; what asks it and prints is imported while it loads.
"""

import os
import stat
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from mkllm.runtime.engine.arguments import EngineOptions, has_projector_beside
from mkllm.runtime.engine.log import Logging
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.platform.terminal import has_input, read_all
from mkllm.runtime.session import Session, start_session

STDIN = "-"
QUIET_SECONDS = 2.0


class WrongPrompt(RuntimeFailure):
    """There is nothing to answer, or an option has no meaning with this model."""

    exit_code = 2


@dataclass(frozen=True)
class Prompt:
    """What was asked. `text` `-` is standard input; `system` None means the maker's.

    `images` and `sounds` are files that are shown to the model.
    """

    text: str
    system: str | None = None
    json: bool = False
    images: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()


def run(prompt: Prompt, options: EngineOptions, kernel: str | None, logging: Logging) -> int:
    """Answer `prompt`; the exit code. Raises a RuntimeFailure for everything that goes wrong."""
    started = time.monotonic()
    options = replace(options, parallel=options.parallel or 1, brief=True)
    with start_session(options, kernel, logging, chats=True) as session:
        from mkllm.runtime.commands.reply import note, reply

        for text in session.notes:
            note(text)
        _expect_taken(prompt, session, options)
        prompt = replace(prompt, text=read_text(prompt.text, sys.stdin.buffer))
        reply(prompt, session, "n_predict" in options.sampling, started)
    return 0


def _expect_taken(prompt: Prompt, session: Session, options: EngineOptions) -> None:
    """Raise WrongPrompt for files that the model is not made for; of a projector of the user's the engine knows."""
    projector = session.manifest.projector
    if (prompt.images or prompt.sounds) and not has_projector_beside(session.manifest, options):
        from mkllm.runtime.commands.media import expect_taken

        vision, audio = (projector.vision, projector.audio) if projector else (False, False)
        expect_taken(prompt.images, prompt.sounds, vision, audio)


def read_text(text: str, source: IO[bytes]) -> str:
    """The prompt: `text`, or standard input for `-`; text piped in beside a prompt follows it after an empty line."""
    if text == STDIN:
        text = _piped(source)
    elif _is_piped(source):
        text = "\n\n".join(part for part in (text, _piped(source)) if part)
    if not text.strip():
        raise WrongPrompt('the prompt is empty: give it some text, as in -p "What is a GGUF file?"')
    return text


def _is_piped(source: IO[bytes]) -> bool:
    """Whether standard input is a pipe or a file, so something that was put there on purpose."""
    try:
        mode = os.fstat(source.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _piped(source: IO[bytes]) -> str:
    if not has_input(source, QUIET_SECONDS):
        print("note: reading standard input until it ends; '< /dev/null' leaves it out", file=sys.stderr, flush=True)
    return read_all(source).decode("utf-8", "replace")
