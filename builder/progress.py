"""What the user sees of work that counts bytes, or steps: a bar with rate and time left on a terminal, plain lines
elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mkllm.runtime.artifact.shown import shown

PLAIN_INTERVAL = 5.0  # seconds between lines where there is no terminal

Advance = Callable[[int], None]
Form = Callable[[float], str]


@dataclass(frozen=True)
class Output:
    """Says on standard error what is going on; `quiet`: says nothing."""

    quiet: bool = False

    def note(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, title: str, total: int, done: int = 0, form: Form | None = None) -> Iterator[Advance]:
        """Show work of `total` bytes, of which `done` are done; the function given is told how many more are.

        `form` writes numbers of them (`size`, or `plain` for what is no bytes).
        """
        title = shown(title)
        if self.quiet:
            yield lambda count: None
        elif sys.stderr.isatty():
            with _bar(title, total, done, form or size) as advance:
                yield advance
        else:
            yield Lines(title, total, done, form or size).advance


class Lines:
    """Prints now and then how far the work is; nothing about work that takes less than PLAIN_INTERVAL."""

    def __init__(self, title: str, total: int, done: int, form: Form) -> None:
        self._form = form
        self._title, self._total, self._first, self._done = title, total, done, done
        self._begun = self._said = time.monotonic()

    def advance(self, count: int) -> None:
        """`count` more bytes are done."""
        self._done += count
        now = time.monotonic()
        if now - self._said >= PLAIN_INTERVAL:
            self._said = now
            share = self._done / self._total if self._total else 1.0
            line = f"{self._title}: {share:.0%} of {self._form(self._total)}"
            if self._done > self._first:
                rate = (self._done - self._first) / (now - self._begun)
                left = max(0, self._total - self._done) / rate
                line += f", {self._form(rate)}/s, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(title: str, total: int, done: int, form: Form) -> Iterator[Advance]:
    from rich import progress as shown_by
    from rich.console import Console

    title_column = shown_by.TextColumn("{task.description}", markup=False)
    counts: tuple[shown_by.ProgressColumn, ...] = (shown_by.MofNCompleteColumn(),)
    if form is size:
        counts = (shown_by.DownloadColumn(), shown_by.TransferSpeedColumn())
    columns = (title_column, shown_by.BarColumn(), *counts, shown_by.TimeRemainingColumn())
    with shown_by.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)


def size(count: float) -> str:
    """A number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"


def plain(count: float) -> str:
    """A number for people."""
    return f"{count:.1f}".removesuffix(".0")
