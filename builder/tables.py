"""Prints tables on standard output; imports rich, so that what prints none need not."""

from typing import NoReturn

from rich.console import Console
from rich.table import Table


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Rich's own way would end the process, with 1: a reader that went away is told as everywhere else."""
        raise BrokenPipeError


def show(*tables: Table) -> None:
    """Print tables, an empty line between two."""
    console = _Console()
    for position, table in enumerate(tables):
        if position:
            console.print()
        console.print(table)
