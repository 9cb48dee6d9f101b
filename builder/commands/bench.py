"""`mkllm bench [MODEL] [ARGS]…`: how fast the artifact of a model is on this machine; measures nothing of its own."""

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.commands.doctor import named
from mkllm.builder.commands.run import become


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[MODEL] [ARGS]...")
@common_options
def bench(words: tuple[str, ...]) -> None:
    """Measure how fast MODEL (default: demo) reads and generates on this machine.

    Builds MODEL into the cache, if it is not there yet. Everything behind it goes to the artifact's own `bench`, such
    as `mkllm bench demo --all --plot demo.svg`.
    """
    model, rest = named(words)
    become(model, ["bench", *rest])
