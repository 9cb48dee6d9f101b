"""Measures: runs a slice of the model on one backend, in a process of its own, and says what took how long.

The slice (a few layers, with their share of the vocabulary) is made once by the engine, into memory, and is what every
measurement loads (spec/launch.md, 3). What is measured, and what follows from it, is decided elsewhere.
"""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.engine.environment import for_placed
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.process import how_it_ended
from mkllm.runtime.engine.supervisor import Placer
from mkllm.runtime.engine.verdict import OF_MEMORY
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.hardware.rank import Choice
from mkllm.runtime.hardware.tune import NotMeasured
from mkllm.runtime.platform import children, files

SLICE = "slice.gguf"


class Laboratory:
    """Makes the slice of one model, and opens processes that run it. Nothing is left after `close`."""

    def __init__(self, placer: Placer, weights: Weights, frozen_home: str | None) -> None:
        self._placer = placer
        self._weights = weights
        self._frozen_home = frozen_home
        self._slice = -1
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def slice(self, choice: Choice, megabytes: int, seconds: float) -> float:
        """Make the slice, of about so many megabytes; its share of the model (0 to 1). Raises NotMeasured."""
        placed = self._place(choice)
        try:
            self._slice = files.temporary(SLICE, placed.program.parent)
        except OSError as error:
            raise NotMeasured(f"there is no place for a part of the model ({error.strerror})") from None
        process = self._spawn(["slice", str(megabytes)], choice, self._weights.variables(WEIGHTS), self._slice)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"reading a part of the model took more than {seconds:.1f} s") from None
        finally:
            ending = self._end(process)
        if process.returncode:
            raise NotMeasured(f"no part of the model could be made ({ending})")
        return os.fstat(self._slice).st_size / self._weights.length

    def open(self, choice: Choice) -> "Bench":
        """A process with this backend loaded, for the slice."""
        size = os.fstat(self._slice).st_size
        return self._open(choice, Weights(self._slice, 0, size).variables(SLICE))

    def open_whole(self, choice: Choice) -> "Bench":
        """A process with this backend loaded, for the whole model."""
        return self._open(choice, self._weights.variables(SLICE))

    def _open(self, choice: Choice, model: Mapping[str, str]) -> "Bench":
        return Bench(self._spawn(["measure"], choice, model, subprocess.PIPE), choice.name, self._end)

    def stop(self) -> None:
        """End whatever is being measured, from another thread; nothing can be opened any more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.kill()

    def close(self) -> None:
        """End all processes, and forget the slice."""
        for process in list(self._running):
            self._end(process)
        if self._slice >= 0:
            os.close(self._slice)
            self._slice = -1

    def _place(self, choice: Choice) -> Placed:
        try:
            return self._placer.place(choice)
        except RuntimeFailure as failure:
            raise NotMeasured(str(failure)) from None

    def _spawn(
        self, words: Sequence[str], choice: Choice, model: Mapping[str, str], output: int
    ) -> subprocess.Popen[str]:
        placed = self._place(choice)
        with self._lock:
            if self._stopped:
                raise NotMeasured("it was stopped")
            try:
                process = self._start(placed, words, model, output)
            except OSError as error:
                raise NotMeasured(f"the engine cannot be executed ({error.strerror})") from None
            self._running.add(process)
        return process

    def _start(
        self, placed: Placed, words: Sequence[str], model: Mapping[str, str], output: int
    ) -> subprocess.Popen[str]:
        slices = [self._slice] if self._slice >= 0 else []
        descriptors = [*self._weights.descriptors, *slices, *placed.descriptors]
        lifeline_far, lifeline = os.pipe()
        environment = {
            **for_placed(os.environ, placed, self._frozen_home),
            **model,
            "MKLLM_LIFELINE_FD": str(children.number(lifeline_far)),
        }
        try:
            process: subprocess.Popen[str] = children.start(
                [str(placed.program), *words],
                (lifeline_far, *descriptors),
                environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                bufsize=1,
            )
        except OSError:
            os.close(lifeline)
            raise
        finally:
            os.close(lifeline_far)
        # Closed with the process object: the engine ends when this program does.
        process.lifeline = os.fdopen(lifeline, "wb")  # type: ignore[attr-defined]
        return process

    def _end(self, process: subprocess.Popen[str]) -> str:
        """Kill it if it still runs; how it ended, in words."""
        with self._lock:
            self._running.discard(process)
        if process.poll() is None:
            process.kill()
        process.wait()
        words = process.stderr.read().strip().splitlines() if process.stderr and not process.stderr.closed else []
        for stream in (process.stdin, process.stdout, process.stderr, process.lifeline):  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        return how_it_ended(process.returncode) + (f": {words[-1]!r:.200}" if words else "")


class Bench:
    """One process that measures. Each method raises NotMeasured when it cannot, or takes longer than `limit` allows.

    Times are in seconds. `limit` (of the monotonic clock; None: none) is when an answer is given up.
    """

    def __init__(self, process: subprocess.Popen[str], kernel: str, end: Any) -> None:
        self.limit: float | None = None
        self._process = process
        self._kernel = kernel
        self._end = end
        self._rest = b""
        assert process.stdout is not None
        self._hearing = children.Hearing()
        self._hearing.add(process.stdout, self._take)

    def load(self, repack: bool) -> float:
        """Load the slice, its weights mapped or repacked."""
        return float(self._ask(f"load {int(repack)}"))

    def context(self, tokens: int, batch: int, flash: bool) -> float:
        """Room for `tokens`, computed `batch` at once, with or without flash attention."""
        return float(self._ask(f"context {tokens} {batch} {int(flash)}"))

    def threads(self, number: int) -> None:
        """Threads for what follows."""
        self._ask(f"threads {number}")

    def neighbours(self, number: int) -> None:
        """Threads that burn time beside what follows."""
        self._ask(f"neighbours {number}")

    def times(self, number: int) -> None:
        """What follows is done so often at the least, instead of three times."""
        self._ask(f"times {number}")

    def fill(self, tokens: int) -> float:
        """Have so many tokens in the context before what follows."""
        return float(self._ask(f"fill {tokens}"))

    def prompt(self, tokens: int, milliseconds: int) -> list[float]:
        """Read so many tokens at once, again and again."""
        return [float(seconds) for seconds in self._ask(f"prompt {tokens} {milliseconds}")]

    def generate(self, milliseconds: int) -> list[float]:
        """Generate one token, again and again."""
        return [float(seconds) for seconds in self._ask(f"generate {milliseconds}")]

    def memory(self, megabytes: int, milliseconds: int) -> list[float]:
        """Read so many megabytes of memory with all threads, again and again."""
        return [float(seconds) for seconds in self._ask(f"memory {megabytes} {milliseconds}")]

    def close(self) -> None:
        """End the process."""
        self._end(self._process)
        self._hearing.close()

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            answer = json.loads(self._line(command))
        except (OSError, ValueError):
            raise self._gone(command) from None
        if "error" in answer:
            raise NotMeasured(f"{self._kernel}: {answer['error']}")
        return answer["seconds"]

    def _line(self, command: str) -> bytes:
        """The next line; what came of it when the process ends."""
        while b"\n" not in self._rest:
            left = None if self.limit is None else self.limit - time.monotonic()
            if (left is not None and left <= 0) or not self._hearing.hear(left):
                raise NotMeasured(f"{self._kernel} did not answer {command.split()[0]!r} in time")
            if not self._hearing.open:
                return self._rest
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _take(self, data: bytes) -> None:
        self._rest += data

    def _gone(self, command: str) -> NotMeasured:
        ending, number = self._end(self._process), children.crash(self._process.returncode)
        others = {None, children.UNREADABLE, *children.FROM_OUTSIDE}
        innocent = number in others or bool(OF_MEMORY.search(ending))
        return NotMeasured(f"{self._kernel} {ending} at {command.split()[0]!r}", crashed=not innocent)
