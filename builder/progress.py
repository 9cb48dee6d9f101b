"""What the user sees of work that counts bytes: a bar with rate and time left on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mkllm.runtime.artifact.shown import shown

PLAIN_INTERVAL = 5.0  # seconds between lines where there is no terminal

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Output:
    """Says on standard error what is going on; `quiet`: says nothing."""

    quiet: bool = False

    def note(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show work of `total` bytes, of which `done` are done; the function given is told how many more are."""
        title = shown(title)
        if self.quiet:
            yield lambda count: None
        elif sys.stderr.isatty():
            with _bar(title, total, done) as advance:
                yield advance
        else:
            yield Lines(title, total, done).advance


class Lines:
    """Prints now and then how far the work is; nothing about work that takes less than PLAIN_INTERVAL."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._first, self._done = title, total, done, done
        self._begun = self._said = time.monotonic()

    def advance(self, count: int) -> None:
        """`count` more bytes are done."""
        self._done += count
        now = time.monotonic()
        if now - self._said >= PLAIN_INTERVAL:
            self._said = now
            rate = max(1.0, (self._done - self._first) / (now - self._begun))
            left = max(0, self._total - self._done) / rate
            share = self._done / self._total if self._total else 1.0
            line = f"{self._title}: {share:.0%} of {size(self._total)}, {size(rate)}/s, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    title_column = TextColumn("{task.description}", markup=False)
    columns = (title_column, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)


def size(count: float) -> str:
    """A number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
