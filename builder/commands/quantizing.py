"""Options of `mkllm build` about quantizing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mkllm.builder.devices import Device
    from mkllm.builder.quant.choice import Quantizing

F = TypeVar("F", bound=Callable[..., Any])


def quantizing_options(function: F) -> F:
    """Add the options; `quantizing` makes their values into what `Request` holds."""
    options = [
        click.option("--quant", metavar="TYPE", help="Quantize the model to this type of llama.cpp's, such as Q4_K_M."),
        click.option(
            "--fit",
            metavar="SIZE|DEVICE",
            help="Quantize the model to the best type that fits, with caches and buffers, into 6GB, or a device such "
            "as pi5, as if --for named it.",
        ),
        click.option(
            "--imatrix",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Quantize by importance: a text such as the model will see, or what llama-imatrix wrote.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def quantizing(values: dict[str, Any]) -> "Quantizing | None":
    """What the options say; None: the model stays as it is."""
    from mkllm.builder.quant.choice import Quantizing
    from mkllm.builder.quant.fit import NoRoom, parse_room
    from mkllm.builder.quant.types import UnknownType, parse_type

    quant, fit, imatrix = (values[name] for name in ("quant", "fit", "imatrix"))
    if quant is not None and fit is not None:
        raise click.UsageError("--quant names a type and --fit chooses one: give one of them")
    if imatrix and quant is None and fit is None:
        raise click.UsageError("--imatrix is for quantizing: give --quant or --fit too")
    if quant is None and fit is None:
        return None
    try:
        return Quantizing(
            None if quant is None else parse_type(quant), None if fit is None else parse_room(fit), imatrix
        )
    except UnknownType as error:
        raise click.BadParameter(str(error), param_hint="--quant") from None
    except NoRoom as error:
        raise click.BadParameter(str(error), param_hint="--fit") from None


def suited(wanted: "Quantizing | None", device: "Device | None") -> "tuple[Quantizing | None, Device | None]":
    """The same on that device, and the device itself, which `--fit` may have named as well as `--for`."""
    room = wanted and wanted.room
    if not wanted or not room:
        return wanted, device
    if device and room.device and device != room.device:
        raise click.UsageError(f"--for names {device.name} and --fit {room.device.name}: name one device, or a size")
    device = device or room.device
    return replace(wanted, room=room.on(device) if device else room), device
