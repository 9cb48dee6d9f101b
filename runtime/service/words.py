"""What a service is to be started with: the options of `serve`, checked, with whole paths, and without secrets."""

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import click
from click.core import ParameterSource

from mkllm.runtime.artifact.engine_words import option_name
from mkllm.runtime.engine.arguments import EMBEDDED, FILES, LISTS, SCALED_LISTS

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
    made = []
    for before, word in pairwise(["", *words]):
        name = option_name(before)
        made.append(_joined(name, map(_absolute, _names(name, word))) if name in NAMING else word)
    return made


def _absolute(file: str) -> str:
    return file if file.startswith(EMBEDDED) else os.path.abspath(file)


def _names(option: str, value: str) -> list[str]:
    """The files that the value of an option names; in a list, one with commas is in quotes."""
    if option in FILES:
        return [value]
    try:
        return next(csv.reader([value]), [])
    except csv.Error:
        raise click.UsageError(f"{value!r} of {option} is no list of files: rename those with line breaks") from None


def _joined(option: str, names: Iterable[str]) -> str:
    if option in FILES:
        return "".join(names)
    return ",".join('"' + name.replace('"', '""') + '"' if set(name) & set(',"') else name for name in names)


def _files(words: Sequence[str]) -> list[str]:
    return [
        (file.rpartition(":")[0] or file) if option_name(before) in SCALED_LISTS else file
        for before, word in pairwise(words)
        if option_name(before) in NAMING
        for file in _names(option_name(before), word)
        if not file.startswith(EMBEDDED)
    ]
