"""`mkllm run MODEL [ARGS]…`: builds into the cache, once for each model and kit, and becomes the artifact."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from mkllm.builder.commands.common import common_options, offline_option, output
from mkllm.builder.errors import PermissionFailure


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("model")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@offline_option
@common_options
def run(model: str, args: tuple[str, ...]) -> None:
    """Build MODEL into the cache, if it is not there yet, and run it with ARGS.

    Everything behind MODEL goes to the artifact, such as `mkllm run demo -p "Hello"`.
    """
    become(model, args)


def become(model: str, words: Sequence[str]) -> NoReturn:
    """Be the artifact of that model, called with these words. Raises a BuilderFailure where that cannot be."""
    from mkllm.builder.cached import cached_artifact

    path = cached_artifact(model, output())
    sys.stdout.flush()
    try:
        os.execv(path, [str(path), *words])
    except OSError as error:
        hint = "set MKLLM_CACHE to a folder from which programs may be started"
        reason = (error.strerror or "?").lower()
        raise PermissionFailure(f"{str(path)!r} cannot be executed ({reason}): {hint}") from None
