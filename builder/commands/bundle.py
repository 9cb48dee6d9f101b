"""`mkllm bundle MODEL -o DIR`: everything that a machine without a network needs to build a model."""

import json
from pathlib import Path

import click

from mkllm.builder.commands.common import common_options, output
from mkllm.builder.kit.target import alternatives
from mkllm.builder.progress import size


@click.command()
@click.argument("model")
@click.option("--target", help=f"The system that artifacts will run on: {alternatives()}.  [default: this one]")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), required=True, help="The folder to fill: a new one."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was collected as JSON.")
@common_options
def bundle(model: str, target: str | None, folder: Path, as_json: bool) -> None:
    """Collect MODEL, the kit, mkllm and the packages that it needs in a folder, to be carried to another machine.

    There `mkllm build` works without a network; the folder's README.txt says how.
    """
    from mkllm.builder.bundle import README, bundle

    made = bundle(model, target, folder, output())
    if as_json:
        click.echo(
            json.dumps({"path": str(made.folder.absolute()), "size": made.size, "command": made.command}, indent=2)
        )
    elif not output().quiet:
        click.echo(f"{folder}: {size(made.size)}; {folder / README} says how to build from it:")
        click.echo(f"  {made.command}")
