"""`mkllm verify FILE`: every byte of an artifact against what was built."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from mkllm.builder.commands.common import common_options, output
from mkllm.builder.progress import size
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.errors import Different


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@common_options
def verify(file: Path, as_json: bool) -> None:
    """Compare every byte of the artifact FILE with what was built, and name what differs and where."""
    from mkllm.runtime.artifact.verify import size_of, verify

    with open_artifact(file) as artifact, output().task(f"verifying {file.name}", size_of(artifact)) as advance:
        found, length, count = verify(artifact, advance), size_of(artifact), len(artifact.manifest.members)
        beside = ", ".join(fact.file for fact in artifact.manifest.beside)
    if as_json:
        differences = [asdict(difference) for difference in found]
        click.echo(json.dumps({"path": str(file), "ok": not found, "differences": differences}, indent=2))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise Different(f"{str(file)!r} is damaged: {'; '.join(map(str, found[:3]))}{more}; copy or build it again")
    if not as_json and not output().quiet:
        parts = f"{count + 1} members, bootloader and PKG" + (f"; beside it {shown(beside)}" if beside else "")
        click.echo(f"{file}: all {size(length)} are as they were built ({parts})")
