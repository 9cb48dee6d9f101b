"""`mkllm eval MODEL --tasks NAMES`: from the command line to the harness, and its figures in a table."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.written import expect_writable, write
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.shown import shown

if TYPE_CHECKING:
    from mkllm.builder.harness.tasks import Figure

FEWEST_DIGITS = 4


def evaluate_tasks(model: str, names: str, options: Mapping[str, Any], output: Output) -> None:
    """Do what the command line asks; `options` are click's parameters by name. Raises a BuilderFailure."""
    from mkllm.builder.harness.launch import serving
    from mkllm.builder.harness.server import hidden, is_address
    from mkllm.builder.harness.tasks import Wanted, choose, expect_harness, run

    words = tuple(name for word in names.split(",") if (name := word.strip()))
    if not words:
        raise click.BadParameter(f"{names!r} names no task: write it like arc_easy,hellaswag", param_hint="--tasks")
    wanted = Wanted(
        words, options["include_path"], options["num_fewshot"], options["limit"], options["apply_chat_template"]
    )
    if options["ctx_size"] and is_address(model):
        raise click.UsageError(
            f"--ctx-size is for what is started here, and {hidden(model)!r} runs: start it with --ctx-size"
        )
    expect_writable(options["table"])
    expect_harness()
    output.note("reading the list of tasks")
    chosen = choose(wanted)
    with serving(model, options["ctx_size"], options["api_key"], output) as server:
        figures = run(server, chosen, wanted, output)
    try:
        if options["as_json"]:
            click.echo(_json(hidden(model) if is_address(model) else model, figures))
        else:
            _print(figures)
    finally:  # whatever becomes of the one, the other is there
        write(options["table"], _csv(figures))


def _json(model: str, figures: "Sequence[Figure]") -> str:
    rows = [dataclasses.asdict(figure) for figure in figures]
    return json.dumps({"model": model, "figures": rows}, indent=2, allow_nan=False)


def _csv(figures: "Sequence[Figure]") -> str:
    from mkllm.builder.harness.tasks import Figure

    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in dataclasses.fields(Figure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(figure) for figure in figures)
    return text.getvalue()


def _print(figures: "Sequence[Figure]") -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from mkllm.builder import tables

    table = Table(
        Column("task", overflow="fold"),
        "metric",
        *(Column(name, justify="right", no_wrap=True) for name in ("value", "examples", "asked")),
        box=None,
    )
    for figure in figures:
        metric = figure.metric if figure.filter is None else f"{figure.metric} ({figure.filter})"
        counts = ("" if number is None else str(number) for number in (figure.shots, figure.documents))
        table.add_row(*(Text(shown(cell)) for cell in (figure.task, metric, _value(figure), *counts)))
    tables.show(table)


def _value(figure: "Figure") -> str:
    """The value, and its standard error where it has one."""
    if figure.value is None:
        return "none"
    error = "" if figure.error is None else f" ± {figure.error:.2g}"
    return f"{figure.value:.{FEWEST_DIGITS}g}{error}"
