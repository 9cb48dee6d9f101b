"""`mkllm devices`, and what the option `--for` names."""

import dataclasses
import json

import click

from mkllm.builder.commands.common import common_options
from mkllm.builder.devices import Device, UnknownDevice, devices, find_device, usual

LIST = "list"


def chosen(name: str | None) -> Device | None:
    """The device of that name; `list` shows all and ends the program. Raises click.BadParameter."""
    if name is None:
        return None
    if name == LIST:
        show()
        click.get_current_context().exit()
    try:
        return find_device(name)
    except UnknownDevice as error:
        raise click.BadParameter(str(error), param_hint="--for") from None


@click.command("devices")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common_options
def devices_command(as_json: bool) -> None:
    """List the devices that `mkllm build --for` knows, and what it sets for them."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(device) for device in devices().values()], indent=2))
    else:
        show()


def show() -> None:
    """A line for each device."""
    from rich.table import Table

    from mkllm.builder import tables

    short = {name: family for family, name in usual().items() if family != name}
    table = Table("device", "what it is", "memory", "GB/s", "processor", "context", "caches", "batch", box=None)
    for name, device in devices().items():
        known = f"{name}, {short[name]}" if name in short else name
        bandwidth = f"{device.bandwidth / 1e9:.1f}" if device.bandwidth else "?"
        memory = f"{device.memory >> 20} MiB"
        kinds = (device.cpu or "any", str(device.context), device.cache_type or "f16", str(device.batch or 512))
        table.add_row(known, device.title, memory, bandwidth, *kinds)
    tables.show(table)
