"""`mkllm doctor [MODEL] [ARGS]…`: what the artifact of a model says of this machine; says nothing of its own."""

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.commands.run import become

DEFAULT = "demo"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[MODEL] [ARGS]...")
@common_options
def doctor(words: tuple[str, ...]) -> None:
    """Show what is found on this machine, and what is fastest for MODEL (default: demo).

    Builds MODEL into the cache, if it is not there yet. Everything behind it goes to the artifact's own `doctor`, such
    as `mkllm doctor demo --tune full`.
    """
    model, rest = named(words)
    become(model, ["doctor", *rest])


def named(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The model, which may be left out, and what follows it."""
    return (DEFAULT, words) if not words or words[0].startswith("-") else (words[0], words[1:])
