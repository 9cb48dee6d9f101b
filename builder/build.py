"""`mkllm build`: from a model reference to an artifact, one step after the other."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from mkllm.builder import chat_template, engine_args, shown_on_windows
from mkllm.builder.adapter import adapters
from mkllm.builder.devices import Device
from mkllm.builder.errors import TooLarge, WrongHash
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import examiner, find_kit
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.merged import with_merged
from mkllm.builder.model import licences, loading, promise
from mkllm.builder.model.memory import measuring
from mkllm.builder.model.reference import Source, expected_name, offer, resolve
from mkllm.builder.name import default_name, file_name, program_name
from mkllm.builder.outlook import Outlook, outlook, sentences
from mkllm.builder.outputs import made_folder
from mkllm.builder.placing import Limits, division, growth, is_beside, room_in
from mkllm.builder.prepack import Prepacking, prepacking
from mkllm.builder.progress import Output, size
from mkllm.builder.projector import NONE, with_projector
from mkllm.builder.quant import choice
from mkllm.builder.quant.choice import Quantizing, kit_here
from mkllm.builder.sign import Signing
from mkllm.builder.target import check_folder, check_path, check_source, check_space, check_system, implied_system
from mkllm.builder.version import version
from mkllm.builder.writer import Facts, Program, Shelf, size_of, work_of, write
from mkllm.runtime.artifact import manifest as man
from mkllm.runtime.artifact.beside import names, stem
from mkllm.runtime.artifact.draft import Draft
from mkllm.runtime.artifact.layout import MACOS
from mkllm.runtime.artifact.manifest import PREPACKED, PROJECTOR, Choice, Defaults, Manifest, Model, Prepacked


@dataclass(frozen=True)
class Request:
    """What the user asked for; None where the choice is left to mkllm.

    `licences` are texts, `sha256` is what the weights must have, `options` are for the manifest.
    `merging`: the adapters are merged into the weights, this strong. `projector` is a file, or NONE.
    `marks`: the chat template of the defaults is made of these, and not needed where the model's own has them.
    """

    model: str
    path: Path | None
    system: str | None
    name: str | None
    defaults: Defaults
    force: bool
    prepack: str | None = None
    device: Device | None = None
    limits: Limits = Limits()
    fit_one_file: bool = False
    signing: Signing | None = None
    icon: Path | None = None
    quantizing: Quantizing | None = None
    licences: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None
    options: Mapping[str, Choice] = field(default_factory=dict)
    marks: frozenset[str] | None = None
    adapters: tuple[Path, ...] = ()
    merging: float | None = None
    projector: Path | str | None = None


@dataclass(frozen=True)
class Made:
    """The artifact that was written, and the files of weights beside it."""

    path: Path
    size: int
    manifest: Manifest
    outlook: Outlook | None = None
    beside: tuple[Path, ...] = ()


def build(request: Request, output: Output) -> Made:
    """Build an artifact. What can be refused is refused before anything is written.

    Only what llama.cpp itself refuses is refused meanwhile, before the target appears.
    """
    system = check_system(request.system or (request.device.target if request.device else None), request.path)
    _expect_signable([system], request)
    if request.path:
        check_path(request.path, request.force)
    if implied_system(request.path) == system != request.system:
        output.note(f"note: {str(request.path)!r} will be for {system}, as its name says")
    shown_on_windows.check_icon([system], request.icon)
    kit = _kit(system, request, output)
    packing = prepacking(kit, request.prepack) if request.prepack is not None else None
    source, request = _resolve(request, [kit], output)
    request = _with_template(request, source, output)
    path = request.path or Path(default_name(source.name, system))
    check_path(path, request.force)
    check_source(path, source.weights)
    _warn(request, source, output)
    return make(path, kit, source, request, output, packing)


def build_all(request: Request, systems: Sequence[str], output: Output) -> tuple[Made, ...]:
    """Build artifacts of one model for several systems into the folder `request.path`, which is made if need be.

    All appear together, or none; those that have their weights beside them share them.
    """
    chosen = [check_system(system, None) for system in dict.fromkeys(systems)]
    _expect_signable(chosen, request)
    if request.prepack:
        raise click.BadParameter("weights are prepacked for one --target at a time", param_hint="--prepack")
    shown_on_windows.check_icon(chosen, request.icon)
    folder = request.path or Path()
    check_folder(folder)
    if folder.is_dir() and (name := request.name or _expected_name(request)):
        for system in chosen:
            check_path(folder / program_name(file_name(name), system), request.force)
    kits = [_kit(system, request, output) for system in chosen]
    source, request = _resolve(request, kits, output)
    request = _with_template(request, source, output)
    base = folder / file_name(request.name or source.name)
    places = [(base.with_name(program_name(base.name, kit.target)), kit) for kit in kits]
    _warn(request, source, output)
    with made_folder(folder):
        for path, _ in places:
            check_path(path, request.force)
            check_source(path, source.weights)
        return make_all(places, base, source, request, output)


def _expected_name(request: Request) -> str | None:
    """What the model will be called, where that is known before it is here."""
    return None if request.quantizing or request.fit_one_file else expected_name(request.model)


def _with_template(request: Request, source: Source, output: Output) -> Request:
    """With the chat template that the artifact gets."""
    template = chat_template.chosen(request.defaults.chat_template, request.marks, source, output)
    return replace(request, defaults=replace(request.defaults, chat_template=template))


def _kit(system: str, request: Request, output: Output) -> Kit:
    kit = find_kit(system)
    _warn_of_target(request.device, kit.target, output)
    kit.verify()
    engine_args.check(examiner(kit), request.defaults.engine_args)
    engine_args.check_template(examiner(kit), request.defaults.chat_template)
    return kit


def _bootloader(path: Path, kit: Kit, source: Source, request: Request) -> bytes | None:
    """The kit's with an icon and a version, for systems that show them."""
    if not TARGETS[kit.target].windows:
        return None
    icon = shown_on_windows.icon_for(kit.target, request.icon)
    return icon and shown_on_windows.bootloader(kit, path, request.name or source.name, icon)


def _expect_signable(systems: Sequence[str], request: Request) -> None:
    if request.signing and not any(TARGETS[system].is_signable for system in systems):
        why = "; one for macOS is signed ad hoc anyway" if MACOS in systems else ""
        raise click.BadParameter(
            f"only programs for Windows are signed, this one is for {' and '.join(systems)}{why}: leave it out",
            param_hint="--sign",
        )


def _resolve(request: Request, kits: Sequence[Kit], output: Output) -> tuple[Source, Request]:
    """The model as it is asked for, with the maker's licence texts, and the request as `_found` has it."""
    source, request = _found(request, kits, output)
    return replace(source, licences={**source.licences, **licences.written(request.licences)}), request


def _found(request: Request, kits: Sequence[Kit], output: Output) -> tuple[Source, Request]:
    """The model, quantized, or of several quantizations the one that fits into one file, if that is asked for; and the
    request with what was reckoned with for that."""
    here = next((kit for kit in kits if kit.runs_here), kits[0])
    if request.quantizing:
        source = _sought(request, here, output)
        made, defaults = choice.apply(here, source, request.quantizing, request.defaults, output)
        options = _of_quantized(request.options, None if made is source else made.model.quantization)
        return made, replace(request, defaults=defaults, options=options)
    if not request.fit_one_file:
        return _sought(request, here, output), request
    room, kit = _room(request, kits)
    if room is None:
        raise click.BadParameter(
            f"nothing limits a file for {kit.target}: leave it out, or give --max-file-size",
            param_hint="--fit-one-file",
        )
    source = _sought(request, here, output, room)
    members = _members(request, source, output)
    room, kit = _room(request, [kit.with_members(members) for kit in kits])
    if room is not None and source.weights.size > room:
        raise TooLarge(
            f"{request.model!r} has {size(source.weights.size)} and at most {size(room)} fit into one file, since "
            f"{request.limits.why(kit.target)}: leave out --fit-one-file, and the weights lie beside the program, or "
            "have --quant make a smaller quantization instead"
        )
    return source, request


def _sought(request: Request, kit: Kit, output: Output, room: int | None = None) -> Source:
    """The model with its projector, looked at, and with what is merged into it; of several quantizations the largest
    of at most `room` bytes. `kit` runs here, if one of the request's does."""
    source = resolve(request.model, output, room, request.revision, request.projector is None)
    if request.path:
        check_source(request.path, source.weights)  # later it is merged or quantized ones that are looked at
    wanted, looking = None if request.projector == NONE else request.projector, examiner(kit)
    source = with_projector(source, Path(wanted) if wanted else None, looking, output)
    if request.merging is None:
        return source
    found = adapters(request.adapters, request.model, source.model.architecture, output)
    return with_merged(source, [*found.values()], request.merging, kit_here(looking), output)


def _members(request: Request, source: Source, output: Output) -> dict[str, Path]:
    """What comes with the model as members of its own."""
    members = dict(source.licences)
    if request.merging is None:
        members |= adapters(request.adapters, request.model, source.model.architecture, output)
    if source.projector:
        members[PROJECTOR] = source.projector.path
    return members


def _of_quantized(options: Mapping[str, Choice], kind: str | None) -> Mapping[str, Choice]:
    """The options as they are told later: with the type that was chosen, whatever it was chosen by."""
    others = {name: value for name, value in options.items() if name not in ("quant", "fit", "imatrix")}
    matrix = {name: value for name, value in options.items() if name == "imatrix"}
    return {**others, "quant": kind, **matrix} if kind else others


def _room(request: Request, kits: Sequence[Kit]) -> tuple[int | None, Kit]:
    """How many bytes of weights fit into each program, and the kit that decides it."""
    rooms = [(room_in(kit.target, size_of(kit, 0), request.limits), kit) for kit in kits]
    limited = [(room, kit) for room, kit in rooms if room is not None]
    return min(limited, key=lambda found: found[0], default=rooms[0])


def make(
    path: Path, kit: Kit, source: Source, request: Request, output: Output, packing: Prepacking | None = None
) -> Made:
    """Write the artifact of a model, while llama.cpp itself looks whether it can read it, and what memory it takes."""
    return make_all([(path, kit)], path.with_name(stem(path.name)), source, request, output, packing)[0]


def make_all(
    places: Sequence[tuple[Path, Kit]],
    base: Path,
    source: Source,
    request: Request,
    output: Output,
    packing: Prepacking | None = None,
) -> tuple[Made, ...]:
    """The same for several kits; weights beside them are in files that begin with `base`."""
    members = _members(request, source, output)
    places = [(path, kit.with_members(members)) for path, kit in places]
    weights, limits = source.weights, request.limits
    grown = weights.size + (growth(weights, source.path) if packing else 0)
    outside = {path for path, kit in places if is_beside(kit.target, size_of(kit, 0), grown, limits)}
    shelf = _shelf(base, source, request, packing) if outside else None
    if shelf and limits.split == "auto":
        _tell(shelf, [kit for path, kit in places if path in outside], source, request, output)
    looking = examiner(next((kit for _, kit in places if kit.runs_here), places[0][1]))
    outlooks: dict[str, Outlook] = {}
    with (
        loading.checking(looking, source.path) as reading,
        measuring(looking, source.path, source.model.memory) as measurement,
    ):
        promise.check(source.origin.promised, output)
        found: list[Model] = []

        def progress(count: int) -> None:
            reading.look()
            advance(count)

        def model() -> Model:
            if not found:
                reading.wait()
                memory = measurement.wait()
                if not memory:
                    output.note("note: the kit's engine does not say what memory the model takes; it is estimated")
                found.append(replace(source.model, memory=memory or source.model.memory))
            return found[0]

        def describing(kit: Kit) -> Callable[[Facts], Manifest]:
            def describe(facts: Facts) -> Manifest:
                manifest = _manifest(kit, source, model(), request, facts)
                if device := request.device:
                    other = manifest.projector.memory if manifest.projector else 0
                    told = outlook(device, manifest.model, weights.size, request.defaults, other)
                    outlooks[kit.target] = told
                    manifest = replace(manifest, defaults=replace(manifest.defaults, device=told.made))
                return _prepacked(manifest, packing, weights.size) if packing else manifest

            return describe

        programs = [
            Program(path, kit, describing(kit), path in outside, _bootloader(path, kit, source, request))
            for path, kit in places
        ]
        work = work_of(programs, shelf, weights, packing)
        _check_space(programs, shelf, grown)
        title = places[0][0].name if len(places) == 1 else f"{len(places)} programs"
        with output.task(f"writing {title}", work) as advance:
            manifests = write(
                programs,
                weights,
                force=request.force,
                progress=progress,
                prepacking=packing,
                shelf=shelf,
                finish=lambda program, new: _finish(program, new, request),
            )
    for line in sentences(next(iter(outlooks.values()))) if outlooks else ():
        output.note(line)
    files = shelf.files if shelf else ()
    return tuple(
        Made(
            program.target,
            os.path.getsize(program.target),
            manifest,
            outlooks.get(program.kit.target),
            files if program.beside else (),
        )
        for program, manifest in zip(programs, manifests, strict=True)
    )


def _warn_of_target(device: Device | None, target: str, output: Output) -> None:
    if device and device.target not in (None, target):
        output.note(f"warning: {device.name} runs files for {device.target}, this one will be for {target}")


def _shelf(base: Path, source: Source, request: Request, packing: Prepacking | None) -> Shelf:
    """The files of weights beside programs. Raises TargetExists or TooLarge."""
    divided = division(source.weights, source.path, request.limits, packing is not None)
    files = tuple(base.with_name(name) for name in names(base.name, len(divided.parts)))
    for file in files:
        check_path(file, request.force)
        check_source(file, source.weights)
    return Shelf(files, divided)


def _check_space(programs: Sequence[Program], shelf: Shelf | None, weights: int) -> None:
    needed = sum(size_of(program.kit, 0 if program.beside else weights) for program in programs)
    check_space(programs[0].target, needed + (weights if shelf else 0))


def _tell(shelf: Shelf, kits: Sequence[Kit], source: Source, request: Request, output: Output) -> None:
    """Say why there is more than one file, and what would fit into one."""
    room, kit = _room(request, kits)
    files = " and ".join(repr(path.name) for path in shelf.files[:2]) + (", …" if len(shelf.files) > 2 else "")
    whole = size_of(kit, source.weights.size)
    lie = "lie" if len(shelf.files) > 1 else "lies"
    why = f"one file would have {size(whole)}, but {request.limits.why(kit.target)}"
    output.note(f"note: {why}: {files} {lie} beside the program; keep them together")
    if room and room > 0:
        found = None if request.quantizing else offer(request.model, room)
        hint = f"{found} would fit; --fit-one-file takes it" if found else "a smaller quantization (--quant) would do"
        output.note(f"note: into one file fit {size(room)} of weights: {hint}")


def _finish(program: Program, new: Draft, request: Request) -> None:
    """Sign it, and raise TooLarge when it is larger than was thought before."""
    target, limits = program.kit.target, request.limits
    if request.signing and TARGETS[target].is_signable:
        request.signing.sign(new, str(program.target))
    length, most = os.fstat(new.descriptor).st_size, limits.of(target)
    if most is not None and length > most:
        raise TooLarge(
            f"{str(program.target)!r} would have {size(length)}, but {limits.why(target)}: build with --split always"
        )


def _warn(request: Request, source: Source, output: Output) -> None:
    trained, wanted = source.model.context, request.defaults.context
    if wanted and wanted > trained:
        output.note(f"note: a context of {wanted} tokens was asked for, but the model was trained with {trained}")


def _manifest(kit: Kit, source: Source, model: Model, request: Request, facts: Facts) -> Manifest:
    return Manifest(
        created_by=f"mkllm {version()}",
        name=request.name or source.name,
        target=kit.target,
        kit=man.Kit(kit.id, kit.versions["llama_cpp"], kit.versions["python"], kit.glibc),
        model=model,
        defaults=request.defaults,
        engine=man.Engine(kit.engine_program, kit.engine_libraries),
        backends=tuple(man.Backend(name, member) for name, member in kit.backends),
        members=facts.members,
        bootloader=facts.bootloader,
        pkg=facts.pkg,
        provenance=_provenance(source, facts.origin, request),
        options={**request.options, **_found_options(source)},
        beside=facts.beside,
        projector=source.projector.facts if source.projector else None,
    )


def _found_options(source: Source) -> dict[str, Choice]:
    """What a recipe has to name although nobody did: a projector that lay beside the model."""
    found = source.projector
    is_beside = found and found.by_itself and found.file and source.origin.source == "file"
    return {"mmproj": found.file} if found and found.file and is_beside else {}


def _prepacked(manifest: Manifest, packing: Prepacking, size: int) -> Manifest:
    model = replace(manifest.model, member=PREPACKED)
    return replace(manifest, model=model, prepacked=Prepacked(packing.kernel, size))


def _provenance(source: Source, sha256: str, request: Request) -> man.Provenance:
    origin = source.origin
    if request.sha256 not in (None, sha256):
        raise WrongHash(
            f"the weights of {request.model!r} have the SHA-256 {sha256}, not {request.sha256}: it is not the model "
            "that was meant, take that one or leave out --sha256"
        )
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
