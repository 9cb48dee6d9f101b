"""`mkllm models [QUERY]`: the catalogue, or with --local what other programs hold on this machine."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.progress import size

NUMBERS = ("SIZE", "CONTEXT")

if TYPE_CHECKING:
    from mkllm.builder.model.catalog import Entry
    from mkllm.builder.model.stores import Held


@click.command()
@click.argument("query", nargs=-1)
@click.option(
    "--local", is_flag=True, help="List what is on this machine already, in the stores of other programs too."
)
@click.option("--fitting", is_flag=True, help="Only models that run in this machine's memory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every quantization.")
@common_options
def models(query: tuple[str, ...], local: bool, fitting: bool, as_json: bool) -> None:
    """List models that have a short name; of those all words of QUERY are in the name, family or licence.

    `mkllm build NAME` takes the quantization shown; `NAME:q8_0` another one.
    """
    rows = _held(" ".join(query), fitting) if local else _known(" ".join(query), fitting)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        words = " ".join(query)
        where = "on this machine" if local else "in the catalogue"
        hint = "" if local else "; hf:organisation/repository names any model of the hub"
        click.echo(f"no model {where}" + (f" has {words!r}" if words else "") + hint)
    elif local:
        _show(("PROGRAM", "MODEL", "SIZE", "QUANTIZATION", "RUNS HERE"), [_local_cells(row) for row in rows])
    else:
        _show(("NAME", "SIZE", "DEFAULT", "CONTEXT", "RUNS HERE", "LICENCE"), [_cells(row) for row in rows])


def _known(words: str, fitting: bool) -> list[dict[str, Any]]:
    from mkllm.builder.model.catalog import search

    rows = [_facts(entry) for entry in search(words)]
    return [row for row in rows if not fitting or row["runs_here"] not in ("no", None)]


def _facts(entry: "Entry") -> dict[str, Any]:
    from mkllm.builder.model import room

    files = {}
    for name, file in entry.files.items():
        files[name] = {"file": file.name, "size": file.size, "exact": file.exact, "sha256": file.sha256}
    told = entry.size(entry.default)
    return {
        "name": entry.alias,
        "also": list(entry.also),
        "title": entry.title,
        "family": entry.family,
        "kind": entry.kind,
        "repository": entry.repository,
        "billions": entry.billions,
        "default": entry.default,
        "size": round(told[0]) if told else None,
        "size_exact": bool(told and told[1]),
        "runs_here": room.runs(told[0], *room.memory()) if told else None,
        "license": entry.license,
        "license_link": entry.license_link,
        "context": entry.context,
        "template": entry.template,
        "files": files,
    }


def _cells(row: dict[str, Any]) -> Sequence[str]:
    about = "" if row["size_exact"] else "~"
    return (
        row["name"],
        about + size(row["size"]) if row["size"] else "?",
        row["default"],
        str(row["context"] or "?"),
        row["runs_here"] or "?",
        (row["license"] or "see its card").removeprefix("LicenseRef-"),
    )


def _held(words: str, fitting: bool) -> list[dict[str, Any]]:
    from mkllm.builder.model import stores

    parts = words.lower().split()
    rows = [_local_facts(found) for found in stores.held()]
    wanted = [row for row in rows if all(part in f"{row['program']} {row['model']}".lower() for part in parts)]
    return [row for row in wanted if not fitting or row["runs_here"] != "no"]


def _local_facts(found: "Held") -> dict[str, Any]:
    from mkllm.builder.model import room

    return {
        "program": found.program,
        "model": found.reference,
        "path": str(found.path),
        "size": found.size,
        "quantization": found.quantization,
        "runs_here": room.runs(found.size, *room.memory()),
    }


def _local_cells(row: dict[str, Any]) -> Sequence[str]:
    return row["program"], row["model"], size(row["size"]), row["quantization"] or "", row["runs_here"]


def _show(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need: nothing is cut where it is searched or piped."""
    from mkllm.runtime.artifact.shown import shown

    lines = [titles, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        cells = [
            cell.rjust(width) if title in NUMBERS else cell.ljust(width)
            for title, cell, width in zip(titles, line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
