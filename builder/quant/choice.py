"""What `mkllm build` is told about quantizing, and the model that comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import current_kits
from mkllm.builder.model.memory import measuring
from mkllm.builder.model.reference import Source
from mkllm.builder.progress import Output
from mkllm.builder.quant.fit import Choice, Room, choose
from mkllm.builder.quant.matrix import Matrix, matrix
from mkllm.builder.quant.quantize import plans, quantized, warn
from mkllm.builder.quant.types import LADDER, MATRIX_LADDER, QuantType, is_quantized, quant_types
from mkllm.runtime.artifact.manifest import Defaults


@dataclass(frozen=True)
class Quantizing:
    """`type` is what was asked for, or `room` what it is to fit into; `imatrix` a text or an importance matrix."""

    type: QuantType | None = None
    room: Room | None = None
    imatrix: Path | None = None


def apply(kit: Kit, source: Source, wanted: Quantizing, defaults: Defaults, output: Output) -> tuple[Source, Defaults]:
    """The model as it is wanted, and the maker's defaults with the context with which it fits, unless a device has it.

    Raises NeedsMatrix or a BuilderFailure.
    """
    here = kit_here(kit)
    found = matrix(here, source, wanted.imatrix, output) if wanted.imatrix else None
    kind = wanted.type
    if wanted.room:
        chosen = _fitting(here, source, wanted.room, found, defaults, output)
        kind = chosen.plan.type if chosen.plan else None
        if not wanted.room.device and chosen.tokens < source.model.context:
            defaults = replace(defaults, context=chosen.tokens)
    if not kind:
        return source, defaults
    warn(source, [kind], output)
    return quantized(here, source, kind, found, output), defaults


def kit_here(kit: Kit) -> Kit:
    """That kit, or another one that runs on this machine. Raises NoKit."""
    kits = [kit, *(Kit.read(path) for path in current_kits().values())]
    found = next((kit for kit in kits if kit.runs_here), None)
    if not found:
        raise NoKit("no kit on this machine runs here, and quantizing takes its llama.cpp: run `mkllm kit build`")
    return found


def _fitting(kit: Kit, source: Source, room: Room, found: Matrix | None, defaults: Defaults, output: Output) -> Choice:
    with measuring(kit, source.path, source.model.memory) as measurement:
        smaller = plans(kit, source, _ladder(source, found), found)
        memory = measurement.wait()
    model = replace(source.model, memory=memory or source.model.memory)
    weights = source.weights.size
    usable = [plan for plan in smaller if not plan.needs_matrix and plan.size < weights]
    projector = source.projector.facts if source.projector else None
    choice = choose(room, model, weights, usable, defaults, projector.memory if projector else 0)
    output.note(f"note: {choice.reason}")
    return choice


def _ladder(source: Source, found: Matrix | None) -> Sequence[QuantType]:
    types = quant_types()
    names: tuple[str, ...] = MATRIX_LADDER if found else LADDER
    if source.model.quantization in names:
        names = names[names.index(source.model.quantization) + 1 :]
    elif is_quantized(source.model.quantization):
        names = tuple(name for name in names if name != source.model.quantization)
    return [types[name] for name in names]
