"""What a service is to be started with: the options of `serve`, checked, with whole paths, and without secrets."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import click
from click.core import ParameterSource

from mkllm.runtime.artifact.engine_words import option_name
from mkllm.runtime.engine.arguments import FILES, LISTS, SCALED_LISTS

NAMING = FILES | LISTS | SCALED_LISTS
SECRET = ("api_keys", "api_key_file")
ALWAYS = ("--no-browser", "--only-port")


@dataclass(frozen=True)
class Words:
    """`words` for the unit's command; `given`: the options by click's names; `files` that they name, whole paths."""

    words: tuple[str, ...]
    given: dict[str, Any]
    files: tuple[str, ...]


def read_words(serve: click.Command, words: Sequence[str]) -> Words:
    """Those of the command line behind `--`: options of `serve`, and the engine's behind another `--`.

    Raises click.UsageError for what `serve` would refuse, and for a log file, which a service has no place for.
    """
    at = list(words).index("--") if "--" in words else len(words)
    own, extra = list(words[:at]), list(words[at + 1 :])
    with serve.make_context("serve", own, ignore_unknown_options=False) as ctx:
        if ctx.params["log_file"] is not None:
            raise click.UsageError("--log-file is not for a service: the journal keeps what it says, leave it out")
        told = [word for param in serve.params for word in _told(ctx, param)]
    made = _whole([*told, *ALWAYS, *(["--", *extra] if extra else [])])
    return Words(tuple(made), ctx.params, tuple(_files(made)))


def _told(ctx: click.Context, param: click.Parameter) -> list[str]:
    """The option as it was given, by its long name; those of one name (`--tune`, `--no-tune`) are told by the first."""
    name = param.name or ""
    first = next(other for other in ctx.command.params if other.name == name)
    is_given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    if not is_given or param is not first or name in SECRET or name == "no_browser" or name == "only_port":
        return []
    option, value = param.opts[0], ctx.params[name]
    if isinstance(param, click.Option) and param.is_flag:
        return [option]
    values = value if param.multiple else [value]
    return [word for each in values for word in (option, str(each))]


def _whole(words: Sequence[str]) -> list[str]:
    """Relative names of files made absolute: a service runs in another folder."""
    names = ["", *words]
    return [
        ",".join(os.path.abspath(file) for file in word.split(",")) if option_name(before) in NAMING else word
        for before, word in pairwise(names)
    ]


def _files(words: Sequence[str]) -> list[str]:
    found = [value for name, value in pairwise(words) if option_name(name) in NAMING]
    return [
        file if os.path.exists(file) else file.rpartition(":")[0] or file
        for value in found
        for file in value.split(",")
    ]
