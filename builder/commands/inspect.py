"""`mkllm inspect FILE`: what the manifest says; verifies nothing."""

import json
from pathlib import Path

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.progress import size
from mkllm.runtime.artifact import description
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.recipe import recipe
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.streams import write_utf8


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@click.option("--recipe", "as_recipe", is_flag=True, help="Print the recipe (mkllm.toml) from which it is built again.")
@common_options
def inspect(file: Path, as_json: bool, as_recipe: bool) -> None:
    """Show what the artifact FILE holds: model, defaults, kit, backends, members."""
    if as_json and as_recipe:
        raise click.UsageError("--json and --recipe are two forms: give one of them")
    with open_artifact(file) as artifact:
        if as_recipe:
            write_utf8(recipe(artifact, file.name))
            return
        manifest, length = artifact.manifest, artifact.size
    if as_json:
        click.echo(json.dumps(description.as_object(str(file), length, manifest), indent=2))
        return
    _print(description.rows(str(file), length, manifest, size), description.members(manifest, size))


def _print(rows: list[tuple[str, str]], members: list[tuple[str, str, str]]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from mkllm.builder import tables

    facts = Table(show_header=False, box=None)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in rows:
        facts.add_row(name, Text(shown(value)))
    contents = Table(Column("member", overflow="fold"), Column("size", justify="right"), "SHA-256", box=None)
    for row in members:
        contents.add_row(*(Text(shown(cell)) for cell in row))
    tables.show(facts, contents)
