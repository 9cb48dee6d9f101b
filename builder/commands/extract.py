"""`mkllm extract FILE [MEMBER]`: a member of an artifact, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from mkllm.builder.commands.common import common_options, output
from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.artifact.reader import Artifact, open_artifact


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("member", default=WEIGHTS)
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), help="File or folder; default: the member's name."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an existing file.")
@common_options
def extract(file: Path, member: str, path: Path | None, force: bool) -> None:
    """Take MEMBER out of the artifact FILE; by default the model, as the GGUF file that it was built from."""
    from mkllm.runtime.artifact.extract import extract, extracted, is_restored

    with open_artifact(file) as artifact:
        size = extracted(artifact, member).size
        undo = _restoring(artifact) if is_restored(artifact, member) else None
        with output().task(f"extracting {member}", size) as advance:
            made = extract(artifact, member, path, advance, force=force, restore=undo)
    if not output().quiet:
        click.echo(made)


def _restoring(artifact: Artifact) -> Callable[[], Iterator[bytes]]:
    """By a kit's engine. Raises NoKit where there is none that runs here."""
    from mkllm.builder.kit.store import find_kit
    from mkllm.builder.prepack import undoing

    engine, [weights] = undoing(find_kit(artifact.manifest.target)), artifact.model(compared=False)
    return lambda: engine.plain(weights.descriptor, weights.offset, weights.size)
