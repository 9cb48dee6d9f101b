"""An option that names a file, or says one word instead."""

from pathlib import Path
from typing import Any

import click


class FileOr(click.Path):
    """A file's name, as a Path; `word` stays a string (a file that is called so is `./word`)."""

    def __init__(self, word: str) -> None:
        super().__init__(path_type=Path)
        self.word = word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == self.word else super().convert(value, param, ctx)
