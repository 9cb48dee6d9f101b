"""What the user sees of a kit's build: one bar for the whole with time left, and a log file beside it."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from typing import IO

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mkllm.builder import cache
from mkllm.builder.kit.part import Report

PLAIN_INTERVAL = 20.0  # seconds between progress lines where there is no terminal
WINDOW = 600.0  # seconds of the past from which the time left is reckoned
SURE = 0.03  # from less progress than this no time is reckoned


@contextlib.contextmanager
def kit_report(quiet: bool = False) -> Iterator[Report]:
    """A bar on a terminal, plain lines elsewhere; what the tools print goes to logs/kit-build.log in the cache.

    One build at a time has that log: a second one waits for the first.
    """
    console = Console(stderr=True)
    path = cache.folder("logs") / "kit-build.log"
    with path.open("a") as log:
        _take(log, quiet)
        if quiet:
            yield QuietReport(log)
            return
        click.echo(f"building the kit; log: {path}", err=True)
        if console.is_terminal:
            with _bar(console) as progress:
                yield BarReport(log, progress, progress.add_task("kit", total=1.0))
        else:
            yield PlainReport(log)


def _take(log: IO[str], quiet: bool) -> None:
    """Lock the log for this process and empty it."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not quiet:
            click.echo("another build of a kit is going on; waiting for its end", err=True)
        fcntl.flock(log, fcntl.LOCK_EX)
    log.truncate(0)


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description:<44.44}"), *columns, console=console, speed_estimate_period=WINDOW)


class QuietReport:
    """Writes the log alone."""

    def __init__(self, log: IO[str]) -> None:
        self.log = log

    def step(self, text: str) -> None:
        self.log.write(f"# {text}\n")

    def progress(self, fraction: float) -> None: ...


class BarReport:
    """Moves one bar of rich's."""

    def __init__(self, log: IO[str], progress: Progress, task: TaskID) -> None:
        self.log, self._progress, self._task = log, progress, task

    def step(self, text: str) -> None:
        self.log.write(f"# {text}\n")
        self._progress.update(self._task, description=text)

    def progress(self, fraction: float) -> None:
        self._progress.update(self._task, completed=fraction)


class PlainReport:
    """Prints a line a step, and how far it is now and then."""

    def __init__(self, log: IO[str]) -> None:
        self.log = log
        self._said = time.monotonic()
        self._first: tuple[float, float] | None = None  # time and fraction of the first progress

    def step(self, text: str) -> None:
        self.log.write(f"# {text}\n")
        click.echo(text, err=True)

    def progress(self, fraction: float) -> None:
        now = time.monotonic()
        begun, done = self._first = self._first or (now, fraction)
        if now - self._said >= PLAIN_INTERVAL:
            self._said = now
            left = (now - begun) * (1 - fraction) / (fraction - done) if fraction >= done + SURE else None
            click.echo(f"  {fraction:.0%}" + ("" if left is None else f", about {left / 60:.0f} min left"), err=True)
