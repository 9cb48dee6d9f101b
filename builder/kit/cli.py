"""`mkllm kit …`: build, fetch, list, show and remove kits."""

import json
from pathlib import Path

import click
from rich.table import Table

from mkllm.builder import tables
from mkllm.builder.commands.common import common_options, output
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.target import alternatives
from mkllm.builder.kit.variants import KERNEL
from mkllm.builder.version import version


@click.group()
def kit() -> None:
    """Build, fetch, list, show and remove kits: everything of an artifact that is not the model."""


@kit.command()
@click.option(
    "--target",
    metavar="TARGET",
    help=f"The system that artifacts will run on: {alternatives()} (that on a Mac alone).  [default: this one]",
)
@click.option(
    "--variants",
    metavar="all|host|NAME,…",
    default="all",
    show_default=True,
    help=(
        "CPU variants: all of llama.cpp's, or those of this machine alone (a quick build for local use), or the "
        "named ones and the one that runs everywhere."
    ),
)
@click.option(
    "--backends",
    default="cpu",
    show_default=True,
    metavar="NAME,…",
    help=(
        "What models can run on: cpu (always there), cuda (NVIDIA's GPUs; hours to compile), vulkan (GPUs; needs glslc "
        "and Vulkan's headers here), metal (on macOS)."
    ),
)
@click.option(
    "--cuda-architectures",
    metavar="NAME,…",
    help="The GPUs that cuda is compiled for, as CMake names them: 75-real is Turing alone.",
)
@click.option(
    "--wheel", "folder", type=click.Path(file_okay=False, path_type=Path), help="Also write it as a wheel here."
)
@click.option(
    "--python-source",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with Debian's source files of Python, for machines without apt.",
)
@click.option(
    "--keep-work", is_flag=True, help="Keep intermediate files (1 GB), for building a changed part again quickly."
)
@common_options
def build(
    target: str | None,
    variants: str,
    backends: str,
    cuda_architectures: str | None,
    folder: Path | None,
    source: Path | None,
    keep_work: bool,
) -> None:
    """Build the kit, or what is missing of it. An interrupted build goes on where it ended."""
    from mkllm.builder.kit.build import build_kit, optional_backends
    from mkllm.builder.kit.report import kit_report
    from mkllm.builder.kit.target import default, named
    from mkllm.builder.kit.variants import resolve
    from mkllm.builder.kit.wheel import check_folder, write_wheel

    chosen = named(target) if target else default()
    resolve(chosen, variants)  # refused before anything is fetched
    wanted = optional_backends(backends, chosen)
    if folder:
        check_folder(folder)
    with kit_report(output().quiet) as report:
        made = build_kit(chosen, variants, report, keep_work, wanted, cuda_architectures, source)
    wheel = write_wheel(made, version(), folder) if folder else None
    if not output().quiet:
        click.echo(f"kit {made.id} for {made.target}: {made.path}")
        if wheel:
            click.echo(f"wheel: {wheel}")


@kit.command()
@click.argument("target")
@click.option("--find-links", "links", metavar="FOLDER", help="Take the wheel from here, and ask no index.")
@common_options
def fetch(target: str, links: str | None) -> None:
    """Fetch the kit for TARGET as a wheel, from the index that pip is set up with."""
    from mkllm.builder.kit.fetch import fetch_kit
    from mkllm.builder.kit.store import find_kit

    output().note(f"fetching the kit for {target}")
    made = fetch_kit(target, version(), links)
    if (used := find_kit(target)).path != made.path:
        output().note(f"note: the kit {used.id} of an installed wheel comes before it: uninstall that to use this one")
    if not output().quiet:
        click.echo(f"kit {made.id} for {made.target}: {made.path}")


@kit.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common_options
def list_kits(as_json: bool) -> None:
    """List the kits on this machine, those in use marked, one for a target; damaged ones go to standard error."""
    from mkllm.builder.kit.store import all_kits, current_kits

    (kits, damaged), used = all_kits(), list(current_kits().values())
    for failure in damaged.values():
        click.echo(f"not listed: {failure}", err=True)
    if as_json:
        click.echo(json.dumps([{**_facts(found), "in_use": found.path in used} for found in kits], indent=2))
        return
    if not kits:
        click.echo("no whole kit on this machine: run `mkllm kit build`")
        return
    table = Table("", "kit", "target", "llama.cpp", "size", "backends", box=None)
    for found in kits:
        mark = "*" if found.path in used else ""
        table.add_row(mark, found.id, found.target, _llama(found), _megabytes(_size(found)), _backends(found))
    tables.show(table)


@kit.command()
@click.argument("kit_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common_options
def show(kit_id: str | None, as_json: bool) -> None:
    """Show one kit: the one in use for this machine's system, or the one whose id begins with KIT_ID.

    Its files are verified first."""
    from mkllm.builder.kit.store import choose_kit

    found = choose_kit(kit_id)
    found.verify()
    if as_json:
        click.echo(json.dumps(_facts(found), indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in _facts(found).items():
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    tables.show(table)


@kit.command()
@click.argument("kit_ids", nargs=-1, metavar="[KIT_ID]...")
@click.option("--old", is_flag=True, help="Those that no build takes any more, and what they were made of.")
@common_options
def remove(kit_ids: tuple[str, ...], old: bool) -> None:
    """Remove the kits whose ids begin with KIT_ID from mkllm's cache, or with --old all that were replaced by newer
    ones. Executables that were built with them need them no more."""
    from mkllm.builder.kit import remove

    if old == bool(kit_ids):
        raise click.UsageError("name the kits to remove by their ids (`mkllm kit list`), or say --old")
    folders = remove.replaced() if old else remove.named(kit_ids)
    freed = remove.remove(folders)
    for folder in folders:
        output().note(f"removed {folder.name}")
    if not output().quiet:
        click.echo(f"{len(folders)} folders removed, {_megabytes(freed)} freed")


def _facts(found: Kit) -> dict[str, object]:
    return {
        "id": found.id,
        "target": found.target,
        "path": str(found.path),
        "size": _size(found),
        "glibc": found.glibc,
        **{f"version {name}": value for name, value in sorted(found.versions.items())},
        "backends": [name for name, _ in found.backends],
    }


def _backends(found: Kit) -> str:
    names = [name for name, _ in found.backends]
    others = [name for name in names if not name.startswith(KERNEL)]
    return ", ".join([f"{len(names) - len(others)} CPU variants", *others])


def _llama(found: Kit) -> str:
    return f"llama-cpp-python {found.versions['llama_cpp']}"


def _size(found: Kit) -> int:
    return sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
