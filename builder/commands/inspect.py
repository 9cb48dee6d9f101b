"""`mkllm inspect FILE`: what the manifest says; verifies nothing."""

import json
from pathlib import Path

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.progress import size
from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.shown import shown

LONGEST = 200


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@common_options
def inspect(file: Path, as_json: bool) -> None:
    """Show what the artifact FILE holds: model, defaults, kit, backends, members."""
    with open_artifact(file) as artifact:
        manifest, length = artifact.manifest, artifact.size
    if as_json:
        click.echo(
            json.dumps({"path": str(file), "size": length, "manifest": json.loads(manifest.to_bytes())}, indent=2)
        )
        return
    rows = [("file", f"{file}, {size(length)}"), *_model(manifest), *_defaults(manifest), *_kit(manifest)]
    _print(rows, [(member.name, size(member.size), member.sha256[:16]) for member in manifest.members])


def _model(manifest: Manifest) -> list[tuple[str, str]]:
    model, origin = manifest.model, manifest.provenance
    source = [origin.reference, *(f"revision {origin.revision}" for _ in range(1) if origin.revision)]
    return [
        ("name", manifest.name),
        ("model", f"{model.title or '(no title)'}: {model.architecture}, {model.parameters:,} parameters"),
        ("quantization", model.quantization),
        ("weights", f"prepacked for {manifest.prepacked.kernel}" if manifest.prepacked else "plain"),
        *(("beside", f"{fact.file}, {size(fact.size)}, {fact.sha256[:16]}") for fact in manifest.beside),
        ("context", f"{model.context} tokens trained"),
        ("chat template", "yes" if model.chat_template else "no"),
        ("licence", model.license or "not stated"),
        ("from", ", ".join(source)),
        ("SHA-256", origin.sha256),
    ]


def _defaults(manifest: Manifest) -> list[tuple[str, str]]:
    chosen = manifest.defaults
    prompt = chosen.system_prompt
    return [
        ("system prompt", "none" if prompt is None else prompt[:LONGEST] + ("…" if len(prompt) > LONGEST else "")),
        ("context in use", f"{chosen.context or manifest.model.context} tokens"),
        (
            "sampling",
            ", ".join(f"{name} {value}" for name, value in chosen.sampling.items()) or "the engine's defaults",
        ),
        ("address", f"{chosen.host}:{chosen.port}"),
        ("engine arguments", " ".join(chosen.engine_args) or "none"),
    ]


def _kit(manifest: Manifest) -> list[tuple[str, str]]:
    kit = manifest.kit
    return [
        ("made by", manifest.created_by),
        ("runs on", f"{manifest.target}, glibc {kit.glibc} or newer"),
        ("kit", f"{kit.id}, llama-cpp-python {kit.llama_cpp}, Python {kit.python}"),
        ("backends", ", ".join(backend.name for backend in manifest.backends)),
    ]


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
