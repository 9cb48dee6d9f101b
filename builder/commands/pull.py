"""`mkllm pull MODEL`: fetches a model, and nothing else."""

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from mkllm.builder.commands.common import common_options, offline_option, output
from mkllm.builder.progress import size

if TYPE_CHECKING:
    from mkllm.builder.convert.checkpoint import Checkpoint
    from mkllm.builder.model.reference import Place


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print what was fetched as JSON.")
@offline_option
@common_options
def pull(model: str, as_json: bool) -> None:
    """Fetch MODEL into the cache that `mkllm build` takes it from, and check it.

    MODEL is what `mkllm build` takes. What is on this machine already is not downloaded again. What is to be converted
    is when it is built.
    """
    from mkllm.builder.model import projectors, promise
    from mkllm.builder.model.reference import locate, read

    place = locate(model, output())
    if place.checkpoint:
        _tell_unconverted(model, place, place.checkpoint, as_json)
        return
    source = read(place, output())
    found = projectors.beside(place, output())
    source, origin = replace(source, projector=found), source.origin
    promise.check(source.promised, output())
    files = sorted(str(path) for path in source.weights.files)
    if as_json:
        facts = {
            "reference": origin.reference,
            "repository": origin.repository,
            "revision": origin.revision,
            "file": origin.file,
            "sha256": origin.sha256,
            "size": source.weights.size,
            "paths": files,
            "projector": str(found.path) if found else None,
            "licences": [str(path) for path in source.licences.values()],
        }
        click.echo(json.dumps(facts, indent=2))
        return
    if not output().quiet:
        where = f"{origin.repository}@{origin.revision}, " if origin.repository else ""
        checked = "SHA-256 as promised" if origin.sha256 or origin.promised else "nobody promised a hash"
        click.echo(f"{model}: {where}{size(source.weights.size)}, {source.model.quantization}, {checked}")
        for path in [*files, *([str(found.path)] if found else [])]:
            click.echo(os.path.abspath(path))


def _tell_unconverted(model: str, place: "Place", found: "Checkpoint", as_json: bool) -> None:
    """Check and tell the files of a model that is to be converted."""
    from mkllm.builder.model import promise

    origin = place.origin
    promise.check(origin.promised, output())
    files = [str(path) for _, path in sorted(found.files.items())]
    if as_json:
        facts = {
            "reference": origin.reference,
            "repository": origin.repository,
            "revision": origin.revision,
            "file": None,
            "sha256": None,
            "size": found.size,
            "paths": files,
            "projector": None,
            "licences": [str(path) for path in place.licences.values()],
        }
        click.echo(json.dumps(facts, indent=2))
    elif not output().quiet:
        where = f"{origin.repository}@{origin.revision}, " if origin.repository else ""
        checked = "hashes as promised" if origin.promised else "nobody promised a hash"
        click.echo(f"{model}: {where}{size(found.size)}, to be converted by `mkllm build`, {checked}")
        for file in files:
            click.echo(os.path.abspath(file))
