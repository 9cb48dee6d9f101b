"""The options that several commands share, and what they mean to engine and front; click's side of the command line.

Names and short forms are those of llama-server where it has them.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mkllm.runtime.artifact.footprint import TYPE_BYTES
from mkllm.runtime.artifact.manifest import Defaults
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.log import Logging

if TYPE_CHECKING:
    from mkllm.runtime.commands.bench import Wanted

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_BODY = 64 << 20
SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
KEY_VARIABLE = "MKLLM_API_KEY"


class Option(click.Option):
    """An option that stands in a section of the help, which shows no ranges."""

    def __init__(self, *args: Any, section: str = "Other", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0], self.help or "")


class Bytes(click.ParamType[int]):
    """A number of bytes, with K, M or G behind it for powers of 1024."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).upper().removesuffix("B").removesuffix("I")
        number, factor = (text[:-1], SUFFIXES[text[-1]]) if text[-1:] in SUFFIXES else (text, 1)
        if not (number.isascii() and number.isdecimal() and int(number)):
            self.fail(f"{value!r} is no number of bytes: write it like 64M", param, ctx)
        return int(number) * factor


class Text(click.ParamType[str]):
    """Text for people and models: bytes that are no UTF-8 become U+FFFD, as they do in what is read from a pipe."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return os.fsencode(value).decode("utf-8", "replace")


def _option(section: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    return click.option(*names, cls=Option, section=section, **attributes)


def _table(section: str, rows: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for names, attributes in reversed(rows):
            command = _option(section, *names, **attributes)(command)
        return command

    return decorate


CACHE_TYPE = click.Choice(list(TYPE_BYTES))
SWITCH = click.Choice(["on", "off", "auto"])
POSITIVE = click.IntRange(min=1)
FILE = click.Path(dir_okay=False, path_type=Path)

asking = _table(
    "Ask and leave",
    (
        (
            ("-p", "--prompt"),
            {"type": Text(), "metavar": "TEXT", "help": "Answer this and exit; '-' reads standard input."},
        ),
        (("--system", "-sys"), {"type": Text(), "metavar": "TEXT", "help": "System prompt, instead of the maker's."}),
        (
            ("--image", "images"),
            {"type": FILE, "multiple": True, "metavar": "FILE", "help": "With -p: a picture to show to the model."},
        ),
        (
            ("--audio", "sounds"),
            {"type": FILE, "multiple": True, "metavar": "FILE", "help": "With -p: sound for the model to hear."},
        ),
        (("--json", "as_json"), {"is_flag": True, "help": "With -p: print one JSON object."}),
    ),
)

model = _table(
    "Model",
    (
        (
            ("--ctx-size", "-c", "context"),
            {"type": click.IntRange(min=0), "metavar": "N", "help": "Context in tokens, at most the model's (0)."},
        ),
        (
            ("--threads", "-t"),
            {"type": POSITIVE, "metavar": "N", "help": "Threads to generate with (default: as many as are fastest)."},
        ),
        (("--threads-batch", "-tb"), {"type": POSITIVE, "metavar": "N", "help": "Threads to read prompts with."}),
        (("--batch-size", "-b"), {"type": POSITIVE, "metavar": "N", "help": "Largest batch of tokens."}),
        (("--ubatch-size", "-ub"), {"type": POSITIVE, "metavar": "N", "help": "Largest batch computed at once."}),
        (("--flash-attn", "-fa"), {"type": SWITCH, "metavar": "on|off|auto", "help": "Flash attention."}),
        (
            ("--cache-type-k", "-ctk"),
            {
                "type": CACHE_TYPE,
                "metavar": "TYPE",
                "help": "Type of the K cache: f16, q8_0, q4_0, …",
            },
        ),
        (
            ("--cache-type-v", "-ctv"),
            {
                "type": CACHE_TYPE,
                "metavar": "TYPE",
                "help": "Type of the V cache: f16, q8_0, q4_0, …",
            },
        ),
        (
            ("--fit",),
            {
                "type": click.Choice(["on", "off"]),
                "default": "on",
                "metavar": "on|off",
                "help": "off: take sizes as they are asked for, whatever memory there is.",
            },
        ),
        (("--lora",), {"metavar": "FILE", "help": "A LoRA adapter (GGUF)."}),
        (("--chat-template-file",), {"metavar": "FILE", "help": "A chat template, instead of the model's."}),
        (
            ("--reasoning-budget",),
            {"type": int, "metavar": "N", "help": "Tokens to think with (-1: any number, 0: none)."},
        ),
        (("--kernel",), {"metavar": "NAME", "help": "This kernel and no other; 'info' lists them."}),
        (
            ("--tune",),
            {
                "type": click.Choice(["quick", "full", "off"]),
                "default": "quick",
                "metavar": "quick|full|off",
                "help": "How to find out what is fastest here: 3 seconds once, a minute anew, or not at all.",
            },
        ),
        (("--no-tune", "tune"), {"flag_value": "off", "help": "The same as --tune off."}),
    ),
)

sampling = _table(
    "Sampling",
    (
        (
            ("--n-predict", "--predict", "--max-tokens", "-n", "n_predict"),
            {"type": int, "metavar": "N", "help": "Most tokens to answer with."},
        ),
        (
            ("--temp", "--temperature", "temperature"),
            {"type": click.FloatRange(min=0), "metavar": "X", "help": "0 is always the same answer."},
        ),
        (("--top-k",), {"type": int, "metavar": "N", "help": "Choose among this many tokens."}),
        (
            ("--top-p",),
            {"type": click.FloatRange(0, 1), "metavar": "X", "help": "Choose among tokens of this total probability."},
        ),
        (
            ("--min-p",),
            {
                "type": click.FloatRange(0, 1),
                "metavar": "X",
                "help": "Leave out tokens less probable than this share of the best.",
            },
        ),
        (("--repeat-penalty",), {"type": float, "metavar": "X", "help": "Above 1: avoid repetition."}),
        (("--repeat-last-n",), {"type": int, "metavar": "N", "help": "How far back repetition is looked for."}),
        (("--presence-penalty",), {"type": float, "metavar": "X", "help": "Avoid what was already there."}),
        (("--frequency-penalty",), {"type": float, "metavar": "X", "help": "Avoid what was often there."}),
        (("--seed", "-s"), {"type": int, "metavar": "N", "help": "The same seed, the same answer."}),
    ),
)

serving = _table(
    "Serve",
    (
        (("--host",), {"metavar": "ADDRESS", "help": "Address to listen on (default: the maker's, 127.0.0.1)."}),
        (
            ("--port",),
            {
                "type": click.IntRange(0, 65535),
                "metavar": "N",
                "help": "Port (default: the maker's, 8080, or the next free one).",
            },
        ),
        (("--only-port",), {"is_flag": True, "help": "That port or none: fail when it is taken."}),
        (
            ("--parallel", "-np"),
            {"type": POSITIVE, "metavar": "N", "help": "Requests answered at the same time; they share the context."},
        ),
        (("--alias", "-a"), {"type": Text(), "metavar": "NAME", "help": "The model's name in the API."}),
        (
            ("--api-key", "api_keys"),
            {"multiple": True, "metavar": "KEY", "help": "Demand this key (also MKLLM_API_KEY)."},
        ),
        (("--api-key-file",), {"type": FILE, "metavar": "FILE", "help": "Demand one of these keys, one a line."}),
        (
            ("--allow-host", "allow_hosts"),
            {"multiple": True, "metavar": "NAME", "help": "Be reachable by this name too."},
        ),
        (
            ("--allow-origin", "allow_origins"),
            {"multiple": True, "metavar": "URL", "help": "Web pages that may use the API."},
        ),
        (
            ("--max-body",),
            {"type": Bytes(), "default": MAX_BODY, "metavar": "SIZE", "help": "Largest request (default: 64M)."},
        ),
        (("--metrics",), {"is_flag": True, "help": "Offer /metrics."}),
        (("--embeddings", "--embedding"), {"is_flag": True, "help": "Serve embeddings only."}),
        (
            ("--pooling",),
            {
                "type": click.Choice(("mean", "cls", "last", "rank", "none")),
                "help": "How a text's tokens become one embedding; chat models need to be told.",
            },
        ),
        (("--reranking", "--rerank"), {"is_flag": True, "help": "Serve reranking only."}),
        (
            ("--timeout", "-to"),
            {"type": POSITIVE, "metavar": "N", "help": "Seconds without progress before a request is given up."},
        ),
        (("--no-browser",), {"is_flag": True, "help": "Do not open the browser."}),
    ),
)

logging = _table(
    "Other",
    (
        (("--log-file",), {"type": FILE, "metavar": "FILE", "help": "Append all that the engine says."}),
        (("--verbose", "-v"), {"is_flag": True, "help": "Show all that the engine says."}),
    ),
)

# Passed to the engine by their own names when given.
PLAIN = (
    "batch_size",
    "ubatch_size",
    "flash_attn",
    "cache_type_k",
    "cache_type_v",
    "lora",
    "chat_template_file",
    "reasoning_budget",
    "timeout",
    "pooling",
)
FLAGS = ("metrics", "embeddings", "reranking")
SAMPLING = (
    *("n_predict", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n"),
    *("presence_penalty", "frequency_penalty", "seed"),
)


def engine_options(given: Mapping[str, Any], extra: tuple[str, ...]) -> EngineOptions:
    """What the command line (click's parameters by name) asks of the engine; `extra` stood after the `--`."""
    plain = [("--" + name.replace("_", "-"), str(given[name])) for name in PLAIN if given.get(name) is not None]
    flags = tuple("--" + name for name in FLAGS if given.get(name))
    return EngineOptions(
        context=given["context"],
        threads=given["threads"],
        threads_batch=given["threads_batch"],
        parallel=given.get("parallel"),
        alias=given.get("alias"),
        fit=given["fit"] == "on",
        tune=given["tune"],
        sampling={name: given[name] for name in SAMPLING if given[name] is not None},
        plain=plain,
        extra=(*flags, *extra),
    )


def bench_options(given: Mapping[str, Any]) -> "tuple[Wanted, EngineOptions, str | None]":
    """What `bench` was asked for. Raises click.UsageError for what cannot be together."""
    from mkllm.runtime.commands.bench import STDOUT, Wanted

    csv, plot = given["csv"], given["plot"]
    if given["as_json"] and csv == STDOUT:
        raise click.UsageError("--json and '--csv -' both print on standard output: give --csv a file")
    if plot is not None and not plot.lower().endswith(".svg"):
        raise click.UsageError(f"the chart is SVG, and {plot!r} does not end with .svg: choose a name that does")
    if csv is not None and csv == plot:
        raise click.UsageError(f"--csv and --plot both name {csv!r}: give each a file of its own")
    wanted = Wanted(
        prompt=given["prompt_tokens"],
        tokens=given["tokens"],
        rounds=given["rounds"],
        depth=given["depth"],
        everything=given["everything"],
        json=given["as_json"],
        csv=csv,
        plot=plot,
    )
    return wanted, EngineOptions(threads=given["threads"], threads_batch=given["threads_batch"]), given["kernel"]


def log_settings(given: Mapping[str, Any]) -> Logging:
    """Where the engine's words go."""
    return Logging(given["log_file"], given["verbose"])


def api_keys(given: Mapping[str, Any]) -> tuple[str, ...]:
    """All keys of command line, file and environment. Raises click.UsageError where a key was meant and none is given:
    whoever names one wants a locked door."""
    keys = [key for text in given["api_keys"] for key in _split_keys("--api-key", text)]
    if file := given["api_key_file"]:
        keys += _keys_of(file)
    if KEY_VARIABLE in os.environ:
        keys += _split_keys(KEY_VARIABLE, os.environ[KEY_VARIABLE])
    return tuple(dict.fromkeys(keys))


def _split_keys(name: str, text: str) -> list[str]:
    keys = [key.strip() for key in text.split(",")]
    if not all(keys):
        raise click.UsageError(f"{name} has an empty key in {text!r}: give a key, or leave {name} out")
    return keys


def _keys_of(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(
            f"the key file {str(file)!r} cannot be read ({error}): check its name and permissions"
        ) from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise click.UsageError(f"the key file {str(file)!r} has no key in it: write one a line")
    return keys


def address(given: Mapping[str, Any], defaults: Defaults) -> tuple[str, int]:
    """Host and port to listen on."""
    return given["host"] or defaults.host, defaults.port if given["port"] is None else given["port"]
