"""`mkllm build MODEL -o FILE`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.common import common_options, output
from mkllm.builder.commands.defaults import defaults, defaults_options
from mkllm.builder.commands.devices import chosen
from mkllm.builder.commands.quantizing import quantizing, quantizing_options
from mkllm.builder.name import is_name
from mkllm.runtime.artifact.shown import shown

if TYPE_CHECKING:
    from mkllm.builder.devices import Device
    from mkllm.runtime.artifact.manifest import Manifest


@click.command()
@click.argument("model")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), help="The file to make; default: the model's name."
)
@click.option("--name", help="What the artifact calls itself, and its model in the API; default: the model's name.")
@defaults_options
@click.option("--target", help="The system that it will run on: linux-x86_64 or linux-aarch64.  [default: this one]")
@click.option(
    "--for",
    "device",
    metavar="DEVICE",
    callback=lambda _context, _parameter, value: chosen(value),
    help="Suit it to a device, such as pi5-8gb or generic-2gb; `list` shows all.",
)
@click.option(
    "--prepack",
    metavar="KERNEL",
    help="Store the weights as this CPU kernel wants them, such as haswell: full speed at once, and no copy in memory.",
)
@quantizing_options
@click.option("-f", "--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@common_options
def build(
    model: str,
    path: Path | None,
    name: str | None,
    target: str | None,
    device: "Device | None",
    prepack: str | None,
    force: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Make one executable file out of MODEL.

    MODEL is `demo`, a local .gguf file (of a split one, any part), or hf:organisation/repository/file.gguf[@revision].
    """
    from mkllm.builder.build import Request, build

    request = Request(model, path, target, _name(name), defaults(values), force, prepack, device, quantizing(values))
    made = build(request, output())
    if as_json:
        facts = {"path": str(made.path.absolute()), "size": made.size, "manifest": json.loads(made.manifest.to_bytes())}
        facts |= {"outlook": made.outlook.as_object()} if made.outlook else {}
        click.echo(json.dumps(facts, indent=2))
    elif not output().quiet:
        context = made.outlook.context if made.outlook else None
        _tell(made.path, made.size, made.manifest, context)


def _tell(path: Path, size: int, manifest: "Manifest", context: int | None) -> None:
    from mkllm.builder import progress

    model, kit, count = manifest.model, manifest.kit, f"{manifest.model.parameters / 1e6:,.1f} M parameters"
    command = str(path) if path.is_absolute() or path.parent != Path() else f"./{path}"
    click.echo(
        f"{path}: {progress.size(size)}; {shown(manifest.name)}, {model.architecture}, {count}, {model.quantization}, "
        f"context {context or manifest.defaults.context or model.context}; {manifest.target}, kit {kit.id}"
    )
    click.echo(f"chat page and API:  {command}")
    click.echo(f'one answer:         {command} -p "Hello"')


def _name(name: str | None) -> str | None:
    if name is not None and not is_name(name):
        raise click.BadParameter(
            f"{name!r} is empty, too long or not printable: give a short name", param_hint="--name"
        )
    return name
