"""`mkllm build MODEL -o FILE`."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.common import common_options, offline_option, output
from mkllm.builder.commands.defaults import defaults, defaults_options
from mkllm.builder.commands.devices import chosen
from mkllm.builder.commands.file_or import FileOr
from mkllm.builder.commands.from_file import FromFile, marks_of, model_of, recipe_of
from mkllm.builder.commands.quantizing import quantizing, quantizing_options, suited
from mkllm.builder.commands.recorded import options_of
from mkllm.builder.commands.text import Text
from mkllm.builder.kit.target import alternatives
from mkllm.builder.model import licences as licences_of
from mkllm.builder.name import is_name
from mkllm.builder.placing import SPLITS, Limits, Split
from mkllm.builder.sign import Signing
from mkllm.builder.size import bytes_of
from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.artifact.shown import shown

if TYPE_CHECKING:
    from mkllm.builder.build import Made
    from mkllm.builder.devices import Device


SHA256 = re.compile("[0-9a-f]{64}")


class Size(click.ParamType[int]):
    """A number of bytes, such as `4GB`; a `-1` behind it is for those who know the limit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text, minus, rest = str(value).partition("-")
        try:
            found = bytes_of(text) - (int(rest) if minus else 0)
        except ValueError:
            found = 0
        if found <= 0:
            self.fail(f"{value!r} is not a size: give one such as 4GB, 3.9GiB or a number of bytes", param, ctx)
        return found


def _is_sha256(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not SHA256.fullmatch(value.lower()):
        raise click.BadParameter(f"{value!r} is no SHA-256: give its 64 hexadecimal digits")
    return value and value.lower()


@click.command(cls=FromFile)
@click.argument("model", callback=model_of)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    expose_value=False,
    help="Take MODEL and options from a recipe (mkllm.toml) or a Modelfile; those given here come before them.",
)
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), help="The file to make; default: the model's name."
)
@click.option("--name", help="What the artifact calls itself, and its model in the API; default: the model's name.")
@defaults_options
@click.option(
    "--license",
    "licences",
    type=Text(licences_of.LARGEST),
    multiple=True,
    help="A licence text that goes into the file, beside those of the model; @FILE reads it from a file; repeatable.",
)
@click.option(
    "--revision", metavar="REVISION", help="Of a model on the hub take this revision, whatever MODEL says of it."
)
@click.option(
    "--sha256", metavar="HASH", callback=_is_sha256, help="Refuse weights that have another SHA-256 in the file."
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help=f"The system that it will run on: {alternatives()}; several make several files, in the folder of -o.  "
    "[default: this one]",
)
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
@click.option(
    "--mmproj",
    "projector",
    type=FileOr("none"),
    metavar="FILE|none",
    help="Put this projector (GGUF) into the file, by which the model takes pictures or sound; none leaves out the one "
    "that is beside the model, which is taken by itself.",
)
@click.option(
    "--lora",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Put a LoRA adapter into the file, which every launch applies: a GGUF file, or a folder as PEFT saves it.",
)
@click.option(
    "--merge-lora",
    "is_merged",
    is_flag=True,
    help="Merge the adapters of --lora into the weights instead, once for all.",
)
@click.option(
    "--lora-scale",
    type=click.FloatRange(-100, 100),
    metavar="X",
    help="How strong adapters are that are merged; 1 is as strong as they were trained.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="auto",
    show_default=True,
    help="Put the weights beside the program: when one file would be too large, always, or never.",
)
@click.option(
    "--max-file-size",
    type=Size(),
    metavar="SIZE",
    help="The largest file to write, such as 4GB or 3.9GiB; 4GiB-1 is that of FAT32.",
)
@click.option(
    "--fit-one-file", is_flag=True, help="Of a model on the hub take the largest quantization that fits into one file."
)
@click.option(
    "--sign",
    metavar="COMMAND",
    help="Have a program for Windows signed: the command line of your tool, with {file} for the program, such as "
    '"signtool sign /fd SHA256 /a {file}". A tool that writes another file gets {signed} for its name, such as '
    '"osslsigncode sign -pkcs12 my.p12 -readpass my.txt -in {file} -out {signed}". It cannot ask for a password.',
)
@click.option(
    "--icon",
    type=click.Path(path_type=Path),
    metavar="FILE.ico",
    help="The icon that Windows shows for the file; default: mkllm's own.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@offline_option
@common_options
def build(
    model: str,
    path: Path | None,
    name: str | None,
    targets: tuple[str, ...],
    device: "Device | None",
    prepack: str | None,
    split: Split,
    max_file_size: int | None,
    fit_one_file: bool,
    projector: Path | str | None,
    adapters: tuple[Path, ...],
    is_merged: bool,
    lora_scale: float | None,
    sign: str | None,
    icon: Path | None,
    licences: tuple[str, ...],
    revision: str | None,
    sha256: str | None,
    force: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Make one executable file out of MODEL.

    MODEL is a short name (`mistral-7b`, `llama-3.1-8b:q5_k_m`; `mkllm models` lists them), a local .gguf file (of a
    split one, any part), a folder with one or with safetensors, which are converted,
    hf:organisation/repository[:quantization or /file.gguf][@revision], https://…/x.gguf[#sha256=…], or
    ollama:name[:tag]; or a recipe, a Modelfile, or a folder that holds one.
    """
    from mkllm.builder import build as making

    if fit_one_file and split != "auto":
        raise click.BadParameter(f"it contradicts --split {split}: leave one of them out", param_hint="--fit-one-file")
    made_here, device = suited(quantizing(values), device)
    if fit_one_file and made_here:
        raise click.BadParameter(
            "it takes a quantization that there is, and --quant and --fit make one: leave one of them out",
            param_hint="--fit-one-file",
        )
    recipe = recipe_of(click.get_current_context())
    for note in recipe.notes if recipe else ():
        output().note(f"note: {note}")
    request = making.Request(
        model=model,
        path=path,
        system=targets[0] if targets else None,
        name=_name(name),
        defaults=defaults(values),
        force=force,
        prepack=prepack,
        device=device,
        limits=Limits(split, max_file_size),
        fit_one_file=fit_one_file,
        signing=_signing(sign),
        icon=icon,
        quantizing=made_here,
        licences=licences,
        revision=revision,
        sha256=sha256,
        options=options_of(click.get_current_context()),
        marks=marks_of(click.get_current_context()),
        adapters=adapters,
        merging=_merging(adapters, is_merged, lora_scale),
        projector=projector,
    )
    several = len(set(targets)) > 1
    made = making.build_all(request, targets, output()) if several else (making.build(request, output()),)
    if as_json:
        from mkllm.builder.report import report

        facts = [report(one) for one in made]
        click.echo(json.dumps(facts if several else facts[0], indent=2))
    elif not output().quiet:
        for one in made:
            _tell(one)


def _tell(made: "Made") -> None:
    from mkllm.builder import progress

    path, manifest = made.path, made.manifest
    context = (made.outlook and made.outlook.context) or manifest.defaults.context or manifest.model.context
    model, kit, count = manifest.model, manifest.kit, f"{manifest.model.parameters / 1e6:,.1f} M parameters"
    command = str(path) if path.is_absolute() or path.parent != Path() else f"./{path}"
    click.echo(
        f"{path}: {progress.size(made.size)}; {shown(manifest.name)}, {model.architecture}, {count}, "
        f"{model.quantization}, context {context}; {manifest.target}, kit {kit.id}"
    )
    for file, fact in zip(made.beside, manifest.beside, strict=True):
        click.echo(f"{file}: {progress.size(fact.size)}; its weights, to be kept beside it")
    if other := purpose(model):
        click.echo(f"{other.noun}, asked at {other.path}:  {command}")
        return
    click.echo(f"chat page and API:  {command}")
    click.echo(f'one answer:         {command} -p "Hello"')


def _merging(adapters: tuple[Path, ...], is_merged: bool, scale: float | None) -> float | None:
    """How strong adapters are merged; None: they are not."""
    if is_merged and not adapters:
        raise click.UsageError("--merge-lora merges the adapters of --lora: name one with it")
    if scale is not None and not is_merged:
        raise click.UsageError("--lora-scale is for adapters that are merged: add --merge-lora, or leave it out")
    return (1.0 if scale is None else scale) if is_merged else None


def _signing(command: str | None) -> Signing | None:
    try:
        return None if command is None else Signing.parse(command)
    except ValueError as error:
        raise click.BadParameter(f"{command!r} cannot be run ({error}): see --help", param_hint="--sign") from None


def _name(name: str | None) -> str | None:
    if name is not None and not is_name(name):
        raise click.BadParameter(
            f"{name!r} is empty, too long or not printable: give a short name", param_hint="--name"
        )
    return name
