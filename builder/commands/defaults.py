"""Options of `mkllm build` that become defaults of the artifact; every one can be overridden when it runs."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mkllm.builder.commands.chat_template import ChatTemplate
from mkllm.builder.commands.text import Text
from mkllm.builder.model.formats import formats
from mkllm.builder.text import is_text
from mkllm.runtime.artifact.engine_words import MODEL, OWN, REASONS, may_be_options, option_name
from mkllm.runtime.artifact.manifest import Defaults, Message

F = TypeVar("F", bound=Callable[..., Any])

INT32 = 2**31 - 1
# Bytes, as the JSON text in UTF-8 that the engine gets: in one argument, for which Linux has room for 128 KiB.
LONGEST = 120 << 10
ROLES = ("user", "assistant")
WHEN_RUN = ("--api-key", "--api-key-file", "--fit")


class FiniteRange(click.FloatRange):
    """A number in a range; neither infinite nor `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number in the range {self._describe_range()}", param, ctx)
        return number


SAMPLING = {
    "temperature": (FiniteRange(0, 100), "Randomness; 0 always takes the likeliest token."),
    "top_p": (FiniteRange(0, 1), "Sample from the likeliest tokens with this much probability together."),
    "top_k": (click.IntRange(0, INT32), "Sample from this many likeliest tokens; 0 is all."),
    "min_p": (FiniteRange(0, 1), "Sample from tokens at least this likely, relative to the likeliest."),
    "repeat_penalty": (FiniteRange(0, 100, min_open=True), "Make repetitions less likely; 1 does nothing."),
    "typical_p": (FiniteRange(0, 1), "Sample from tokens that are as likely as expected, with this much probability."),
    "n_predict": (click.IntRange(-1, INT32), "The most tokens of an answer; -1: any number."),
    "repeat_last_n": (click.IntRange(-1, INT32), "Look for repetitions in this many tokens; 0: none, -1: all."),
    "presence_penalty": (FiniteRange(-100, 100), "Make tokens that were there less likely; 0 does nothing."),
    "frequency_penalty": (FiniteRange(-100, 100), "The same by how often they were there; 0 does nothing."),
    "mirostat": (click.IntRange(0, 2), "Mirostat sampling of version 1 or 2; 0: none."),
    "mirostat_lr": (FiniteRange(0, 100), "Learning rate of Mirostat."),
    "mirostat_ent": (FiniteRange(0, 100), "Target entropy of Mirostat."),
    "seed": (click.IntRange(-1, 2**32 - 1), "Seed of the random numbers; -1 takes another one each time."),
}


def defaults_options(function: F) -> F:
    """Add the options; `defaults` makes their values into what the manifest holds."""
    options = [
        click.option(
            "--system", "--system-prompt", type=Text(LONGEST), help="System prompt; @FILE reads it from a file."
        ),
        click.option(
            "--chat-template",
            type=ChatTemplate(LONGEST),
            help="Chat template, instead of the model's: a Jinja file, the template itself, or the name of a format: "
            f"{', '.join(formats())}.",
        ),
        click.option(
            "--message",
            type=(click.Choice(ROLES), Text(LONGEST)),
            multiple=True,
            metavar="user|assistant TEXT",
            help="A message to stand before those of every conversation, as an example; repeatable.",
        ),
        click.option(
            "--ctx-size", type=click.IntRange(1, INT32), metavar="TOKENS", help="Context; default: the model's."
        ),
        *(click.option(f"--{name.replace('_', '-')}", type=kind, help=text) for name, (kind, text) in SAMPLING.items()),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address that the artifact listens on."),
        click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 is any."),
        click.option(
            "--engine-arg", multiple=True, metavar="ARG", help="Argument for the engine as it is; repeatable."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def defaults(values: dict[str, Any]) -> Defaults:
    """The defaults in the values of those options."""
    return Defaults(
        system_prompt=values["system"],
        chat_template=values["chat_template"],
        messages=tuple(Message(role, content) for role, content in values["message"]),
        context=values["ctx_size"],
        sampling={name: values[name] for name in SAMPLING if values[name] is not None},
        host=_host(values["host"]),
        port=values["port"],
        engine_args=_engine_args(values["engine_arg"]),
    )


def _host(text: str) -> str:
    if not text or not text.isprintable() or any(letter in text for letter in " /@"):
        raise click.BadParameter(f"{text!r} is not an address: give one such as 0.0.0.0", param_hint="--host")
    return text


def _engine_args(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if not is_text(word):
            raise click.BadParameter(f"{word!r} is not UTF-8 text: give a text", param_hint="--engine-arg")
    for word in may_be_options(words):
        _expect_for_engine(word)
    return words


def _expect_for_engine(text: str) -> None:
    name = option_name(text)
    if own := OWN.get(name):
        reason = f"use {own}" + (" when the file is run" if own in WHEN_RUN else "")
    elif name in REASONS:
        reason = "use MODEL" if REASONS[name] == MODEL else REASONS[name]
    else:
        return
    raise click.BadParameter(f"{text!r} is not for the engine of the file: {reason}", param_hint="--engine-arg")
