"""Options that every command has, and what commands share in reading them."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mkllm.builder.cli import Settings
from mkllm.builder.model.offline import go_offline
from mkllm.builder.progress import Output

F = TypeVar("F", bound=Callable[..., Any])


def common_options(function: F) -> F:
    """Add `--quiet` and `--debug`; `output` tells whether they were given."""
    function = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks of failures."
    )(function)
    return click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Show no progress and no notes."
    )(function)


def offline_option(function: F) -> F:
    """Add `--offline`, which acts at once."""
    return click.option(
        "--offline",
        is_flag=True,
        expose_value=False,
        callback=_set_offline,
        help="Use no network: take models from what is on this machine.",
    )(function)


def output() -> Output:
    """Where this command says what is going on."""
    return Output(quiet=_settings(click.get_current_context()).quiet)


def _settings(context: click.Context) -> Settings:
    return context.ensure_object(Settings)


def _set_offline(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        go_offline()


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    _settings(context).debug |= value


def _set_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    _settings(context).quiet |= value
