"""`mkllm build`: from a model reference to an artifact, one step after the other."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder import engine_args
from mkllm.builder.devices import Device
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import examiner, find_kit
from mkllm.builder.model import promise, vocabulary
from mkllm.builder.model.memory import measuring
from mkllm.builder.model.reference import Source, resolve
from mkllm.builder.outlook import Outlook, outlook, sentences
from mkllm.builder.prepack import Prepacking, prepacking
from mkllm.builder.progress import Output
from mkllm.builder.quant import choice
from mkllm.builder.quant.choice import Quantizing
from mkllm.builder.target import check_path, check_source, check_space, check_system
from mkllm.builder.version import version
from mkllm.builder.writer import size_of, work_of, write
from mkllm.runtime.artifact import manifest as man
from mkllm.runtime.artifact.manifest import PREPACKED, Blob, Defaults, Manifest, Member, Model, Prepacked


@dataclass(frozen=True)
class Request:
    """What the user asked for; None where the choice is left to mkllm."""

    model: str
    path: Path | None
    system: str | None
    name: str | None
    defaults: Defaults
    force: bool
    prepack: str | None = None
    device: Device | None = None
    quantizing: Quantizing | None = None


@dataclass(frozen=True)
class Made:
    """The artifact that was written."""

    path: Path
    size: int
    manifest: Manifest
    outlook: Outlook | None = None


def build(request: Request, output: Output) -> Made:
    """Build an artifact. What can be refused is refused before anything is written.

    Only what llama.cpp itself refuses is refused meanwhile, before the target appears.
    """
    system = check_system(request.system or (request.device.target if request.device else None), request.path)
    if request.path:
        check_path(request.path, request.force)
    kit = find_kit(system)
    _warn_of_target(request.device, kit.target, output)
    kit.verify()
    engine_args.check(examiner(kit), request.defaults.engine_args)
    packing = prepacking(kit, request.prepack) if request.prepack else None
    source = resolve(request.model, output)
    if request.quantizing:
        source = choice.apply(kit, source, request.quantizing, request.defaults.context, output)
    path = request.path or Path(source.name)
    check_path(path, request.force)
    check_source(path, source.weights)
    _warn(request, source, output)
    return make(path, kit, source, request, output, packing)


def make(
    path: Path, kit: Kit, source: Source, request: Request, output: Output, packing: Prepacking | None = None
) -> Made:
    """Write the artifact of a model, while llama.cpp itself looks whether it can read it, and what memory it takes."""
    check_space(path, size_of(kit, source.weights))
    found: list[Outlook] = []
    looking = examiner(kit)
    with (
        vocabulary.checking(looking, source.path) as reading,
        measuring(looking, source.path, source.model.memory) as measurement,
    ):
        promise.check(source.origin.promised, output)

        def progress(count: int) -> None:
            reading.look()
            advance(count)

        def describe(boot: Blob, pkg: Blob, members: tuple[Member, ...], origin: str) -> Manifest:
            reading.wait()
            memory = measurement.wait()
            if not memory:
                output.note("note: the kit's engine does not say what memory the model takes; it is estimated")
            model = replace(source.model, memory=memory or source.model.memory)
            manifest = _manifest(kit, source, model, request, boot, pkg, members, origin)
            if device := request.device:
                found.append(outlook(device, model, source.weights.size, request.defaults))
                manifest = replace(manifest, defaults=replace(manifest.defaults, device=found[-1].made))
            return _prepacked(manifest, packing, source.weights.size) if packing else manifest

        with output.task(f"writing {path.name}", work_of(kit, source.weights, packing)) as advance:
            manifest = write(
                path, kit, source.weights, describe, force=request.force, progress=progress, prepacking=packing
            )
    for line in sentences(found[0]) if found else ():
        output.note(line)
    return Made(path, os.path.getsize(path), manifest, found[0] if found else None)


def _warn_of_target(device: Device | None, target: str, output: Output) -> None:
    if device and device.target not in (None, target):
        output.note(f"warning: {device.name} runs files for {device.target}, this one will be for {target}")


def _warn(request: Request, source: Source, output: Output) -> None:
    trained, wanted = source.model.context, request.defaults.context
    if wanted and wanted > trained:
        output.note(f"note: a context of {wanted} tokens was asked for, but the model was trained with {trained}")
    if not source.model.chat_template:
        output.note("note: the model has no chat template; a general one will be used, or give --engine-arg")


def _manifest(
    kit: Kit,
    source: Source,
    model: Model,
    request: Request,
    boot: Blob,
    pkg: Blob,
    members: tuple[Member, ...],
    origin: str,
) -> Manifest:
    return Manifest(
        created_by=f"mkllm {version()}",
        name=request.name or source.name,
        target=kit.target,
        kit=man.Kit(kit.id, kit.versions["llama_cpp"], kit.versions["python"], kit.glibc),
        model=model,
        defaults=request.defaults,
        engine=man.Engine(kit.engine_program, kit.engine_libraries),
        backends=tuple(man.Backend(name, member) for name, member in kit.backends),
        members=members,
        bootloader=boot,
        pkg=pkg,
        provenance=_provenance(source, origin),
    )


def _prepacked(manifest: Manifest, packing: Prepacking, size: int) -> Manifest:
    model = replace(manifest.model, member=PREPACKED)
    return replace(manifest, model=model, prepacked=Prepacked(packing.kernel, size))


def _provenance(source: Source, sha256: str) -> man.Provenance:
    origin = source.origin
    if origin.sha256 and origin.sha256 != sha256:
        raise promise.wrong(source.path, sha256, origin.sha256)
    return man.Provenance(
        reference=origin.reference,
        source=origin.source,
        sha256=sha256,
        repository=origin.repository,
        revision=origin.revision,
        file=origin.file,
    )
