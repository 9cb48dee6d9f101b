"""What the front tells the person who started it: where it serves, with what, and how far the model is read."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import IO

from mkllm.runtime.ansi import rewritten
from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.engine.supervisor import MEASURING, Snapshot
from mkllm.runtime.errors import OutputFailure
from mkllm.runtime.front.listen import Listening
from mkllm.runtime.launch import Launch

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


class Console:
    """Standard output gets the facts, standard error warnings and progress; a terminal that is gone harms nothing."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._begun = time.monotonic()
        self._restarts = 0
        self._was_ready = False
        self._line_open = False
        self._reason = ""

    def banner(self, listening: Listening) -> None:
        """Address, API, model, kernel, and how to stop; then what a person should know about this launch."""
        snapshot = self._launch.engine.snapshot()
        lines = banner(self._launch, listening, snapshot)
        self._reason = snapshot.reason
        _say("\n".join(lines), sys.stdout)
        for note in self._warnings(listening):
            _say(note, sys.stderr)

    def engine(self, snapshot: Snapshot) -> None:
        """The engine has changed: its progress, that it is ready, that it had to be started again."""
        if snapshot.restarts > self._restarts and snapshot.phase != "failed":
            self._restarts = snapshot.restarts
            self._end_line()
            _say(f"{snapshot.last_failure}; started again with {snapshot.kernel} ({snapshot.reason})", sys.stderr)
            self._was_ready = False
        if snapshot.phase == "ready" and not self._was_ready:
            self._was_ready = True
            self._clear_line()
            _say(f"ready after {time.monotonic() - self._begun:.1f} s", sys.stdout)
        if snapshot.phase == "ready" and self._reason not in ("", snapshot.reason):
            _say(shown(f"  kernel  {snapshot.kernel} ({snapshot.reason})"), sys.stdout)
            self._reason = snapshot.reason
        elif snapshot.phase == "loading" and sys.stderr.isatty():
            self._line_open = True
            what = snapshot.reason if snapshot.reason == MEASURING else f"reading the model: {snapshot.progress:4.0%}"
            _say(rewritten(what, sys.stderr), sys.stderr, end="")

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """One line for a request, with --verbose."""
        if self._launch.front.verbose:
            self._end_line()
            _say(f"{method} {path!r:.120} {status} {seconds:.3f} s", sys.stderr)

    def defect(self, error: Exception) -> None:
        """A failure that the front has no sentence for."""
        self._end_line()
        _say(f"a request failed by a defect of this program: {type(error).__name__}: {error}", sys.stderr)

    def end(self) -> None:
        """Leave the terminal with a clean line."""
        self._end_line()

    def _warnings(self, listening: Listening) -> Sequence[str]:
        front = self._launch.front
        warnings = list(front.notes)
        if listening.moved:
            warnings.append(f"port {listening.wanted} is taken: this is port {listening.port}")
        if listening.public and not front.api_keys:
            warnings.append(
                f"warning: everybody who can reach port {listening.port} of this machine can use the model; "
                "--api-key KEY asks for a key"
            )
        return warnings

    def _clear_line(self) -> None:
        if self._line_open:
            _say(rewritten("", sys.stderr), sys.stderr, end="")
            self._line_open = False

    def _end_line(self) -> None:
        if self._line_open:
            _say("", sys.stderr)
            self._line_open = False


def banner(launch: Launch, listening: Listening, snapshot: Snapshot) -> list[str]:
    """The lines that are printed once the port is open."""
    model, keys = launch.manifest.model, launch.front.api_keys
    facts = f"{model.architecture}, {count(model.parameters)} parameters, {model.quantization}"
    other, key = purpose(model), f"{'with' if keys else 'without'} a key"
    about = f"says how to ask this {other.noun}" if other else "is the chat page"
    api = f"{listening.url}{other.path}" if other else f"{listening.url}/v1 (OpenAI) and /v1/messages (Anthropic)"
    lines = [
        f"{launch.model_id}: {listening.url} {about}; Ctrl-C stops it",
        f"  API     {api}, {key}",
        f"  model   {model.title or launch.manifest.name} ({facts}), context {launch.context} tokens",
        f"  kernel  {snapshot.kernel} ({snapshot.reason})",
    ]
    return [shown(line) for line in lines]


def count(number: int) -> str:
    """`7.2 B`, `6.6 M`."""
    for size, unit in UNITS:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _say(text: str, stream: IO[str], end: str = "\n") -> None:
    # Nobody may read it any more: the terminal was closed, or the reader of a pipe has gone. The requests go on.
    with contextlib.suppress(OSError, OutputFailure):
        print(text, file=stream, end=end, flush=True)
