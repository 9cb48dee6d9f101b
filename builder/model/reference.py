"""What MODEL on the command line stands for: a short name, a file here, on the hub, at an address, or in a store."""

import contextlib
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mkllm.builder.errors import BuilderFailure, HubFailure, ModelNotFound, TooLarge
from mkllm.builder.model import address, catalog, folder, licences, ollama, projectors
from mkllm.builder.model.facts import facts
from mkllm.builder.model.hub_reference import MAIN, PREFIX, Reference, check_endpoint, parse
from mkllm.builder.model.projectors import Companion
from mkllm.builder.model.split import NAME, merged, read_parts
from mkllm.builder.model.weights import Weights
from mkllm.builder.name import name_after
from mkllm.builder.progress import Output, size
from mkllm.runtime.artifact.manifest import Model

if TYPE_CHECKING:
    from mkllm.builder.convert.checkpoint import Checkpoint
    from mkllm.builder.model.hub import NoGguf

DEMO = "demo"
DEMO_FILE = Path(__file__).resolve().parent.parent / "demo" / "demo.gguf"
SUFFIX = ".gguf"
FORMS = (
    f"name a .gguf file, a folder with one, a short name of `mkllm models`, {DEMO!r}, {PREFIX}organisation/repository "
    f"with :quantization or /file.gguf, {ollama.PREFIX}name, or https://host/path/model.gguf"
)
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[A-Za-z0-9._-]+)?")


@dataclass(frozen=True)
class Origin:
    """Where weights came from, as the manifest tells it.

    `sha256` is what they must have, None if nobody promised; `promised` what files have that are not taken whole.
    """

    reference: str
    source: str
    repository: str | None = None
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    promised: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A model on this machine that was not read yet: its first file, where it is from, what to call it.

    `licences` are files that came with it, by their names. `checkpoint` is what is to be converted, if it is.
    `template` is a chat template in Go's language that came with it.
    """

    path: Path
    origin: Origin
    name: str
    licences: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: "Checkpoint | None" = None
    template: Path | None = None


@dataclass(frozen=True)
class Source:
    """A model found: its first file, its bytes, its facts, where it is from, and what to call it.

    `licences` are texts that go into the artifact, by the names of members. `template`: see `Place`. `projector` is
    looked for on demand.
    """

    path: Path
    weights: Weights
    model: Model
    origin: Origin
    name: str
    licences: Mapping[str, Path] = field(default_factory=dict)
    template: Path | None = None
    projector: Companion | None = None

    @property
    def promised(self) -> dict[Path, str]:
        """The hashes that its files must have, those of its projector included."""
        own = {self.path: self.origin.sha256} if self.origin.sha256 else {}
        return {**own, **self.origin.promised, **(self.projector.promised if self.projector else {})}


def resolve(
    text: str, output: Output, room: int | None = None, revision: str | None = None, projector: bool = False
) -> Source:
    """Find a model, downloading and converting it if need be, and check it. Raises a BuilderFailure.

    Of one on the hub it is the largest quantization of at most `room` bytes, and of that `revision`, if those are said.
    `projector`: with the one that accompanies it, if there is one.
    """
    place = locate(text, output, room, revision)
    found = read(place, output)
    return replace(found, projector=_companion(place, output)) if projector else found


def _companion(place: Place, output: Output) -> Companion | None:
    if not place.checkpoint:
        return projectors.beside(place, output)
    from mkllm.builder.convert.projector import converted_projector

    path = converted_projector(place.checkpoint, place.origin.promised, output)
    return Companion(path, f"the projector of {place.checkpoint.told}", None) if path else None


def read(place: Place, output: Output) -> Source:
    """The model at that place, converted if need be, and checked. Raises a BuilderFailure."""
    path, origin = place.path, place.origin
    if place.checkpoint:
        from mkllm.builder.convert.model import converted

        path = converted(place.checkpoint, origin.promised, output)
        origin = replace(origin, promised={})
    parts = read_parts(path)
    tensors = [tensor for part in parts for tensor in part.tensors]
    return Source(
        parts[0].path,
        merged(parts),
        facts(parts[0], tensors),
        origin,
        name_after(place.name),
        licences.members(place.licences),
        place.template,
    )


def locate(text: str, output: Output, room: int | None = None, revision: str | None = None) -> Place:
    """Find a model's files, downloading them if need be; does not read them. Raises a BuilderFailure."""
    if revision is not None and not _on_hub(text):
        raise ModelNotFound(f"{text!r} is not on the hub, so it has no revision {revision!r}: leave out --revision")
    if text == DEMO:
        return Place(DEMO_FILE, Origin(DEMO, "demo"), DEMO)
    if text.startswith(ollama.PREFIX):
        return _from_ollama(text)
    if on_hub := _on_hub(text):
        reference, wanted = on_hub
        return _from_hub(text, replace(reference, revision=revision or reference.revision), wanted, output, room)
    if address.is_address(text):
        return _from_address(text, output)
    path = Path(text)
    if _is_missing(path) and not text.endswith(SUFFIX):
        raise ModelNotFound(f"there is no model {text!r}: {_suggestion(path)}")
    return _from_path(path)


def expected_name(text: str) -> str | None:
    """What the model will be called; None where that is not known before somebody is asked, or there is none."""
    if text == DEMO:
        return DEMO
    with contextlib.suppress(BuilderFailure, OSError):
        if on_hub := _on_hub(text):
            return _name_on_hub(*on_hub)
        if text.startswith(ollama.PREFIX) or address.is_address(text):
            return None
        path = Path(text)
        if path.is_file():
            return name_after(_stem(path.name))
        if path.is_dir() and not folder.only_model(path):
            return name_after(_folder_name(path))
    return None


def _name_on_hub(reference: Reference, wanted: catalog.Wanted | None) -> str | None:
    if wanted:
        return wanted.entry.alias
    return name_after(_stem(os.path.basename(reference.file))) if reference.file else None


def _is_missing(path: Path) -> bool:
    """Whether there is nothing; False where that cannot be seen: opening it will say why."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _from_path(path: Path) -> Place:
    with contextlib.suppress(OSError):  # opening it will say why
        if path.is_dir():
            found = folder.only_model(path)
            return _from_file(found) if found else _from_folder(path)
        if path.is_file() and folder.is_modelfile(path):
            raise folder.refuse_modelfile(path)
    return _from_file(path)


def _from_folder(path: Path) -> Place:
    """A model as transformers keeps it."""
    from mkllm.builder.convert.checkpoint import checkpoint, in_folder

    name = _folder_name(path)
    found = checkpoint(in_folder(path), name, str(path))
    return Place(path, Origin(name, "file"), name, licences.beside(path), found)


def _folder_name(path: Path) -> str:
    return os.fsencode(path.resolve().name).decode(errors="replace") or "model"


def _from_file(path: Path) -> Place:
    told = os.fsencode(path.name).decode(errors="replace")
    return Place(path, Origin(told, "file", file=told), _stem(path.name))


def _on_hub(text: str) -> tuple[Reference, catalog.Wanted | None] | None:
    """The file on the hub that is meant, and the short name if it is one; None for models that are elsewhere."""
    if text == DEMO or text.startswith(ollama.PREFIX):
        return None
    if text.startswith(PREFIX):
        return parse(text), None
    if address.is_address(text):
        found = address.on_hub(text)
        return (found, None) if found else None
    if text.endswith(SUFFIX) or not ALIAS.fullmatch(text) or not _is_missing(Path(text)):
        return None
    try:
        wanted = catalog.find(text)
    except ModelNotFound as error:
        raise _also_here(text, error) from None
    return as_reference(wanted), wanted


def offer(text: str, room: int) -> str | None:
    """The largest quantization of at most `room` bytes, in words; None if there is none, and of models here."""
    try:
        on_hub = _on_hub(text)
        if not on_hub:
            return None
        from mkllm.builder.model.hub import fitting

        found, _ = fitting(on_hub[0], room, Output(quiet=True))
    except (HubFailure, ModelNotFound):
        return None  # it was there a moment ago; this is an extra
    return f"{found.file!r} ({size(found.size)})" if found else None


def _fitted(reference: Reference, room: int, output: Output) -> Reference:
    from mkllm.builder.model.hub import fitting

    found, among = fitting(reference, room, output)
    if not among:
        return reference  # there is no such file: who fetches it says so
    if not found:
        smallest = among[-1]
        raise TooLarge(
            f"{reference.text!r} has no quantization of at most {size(room)}, which fits into one file: the smallest, "
            f"{smallest.file!r}, has {size(smallest.size)}; leave out --fit-one-file, and it lies beside the program"
        )
    if found.file != reference.file:
        output.note(f"taking {found.file!r} ({size(found.size)}), the largest of {len(among)} that fits into one file")
    return replace(reference, file=found.file, quantization=None)


def _from_hub(
    text: str, reference: Reference, wanted: catalog.Wanted | None, output: Output, room: int | None
) -> Place:
    check_endpoint()
    from mkllm.builder.model.hub import NoGguf, fetch  # half a second of imports that local files do not need

    known = wanted.file if wanted else None
    demanded = address.pinned(text) if address.is_address(text) else None
    if room is not None and not demanded and (fitted := _fitted(reference, room, output)) != reference:
        reference = fitted
        text = fitted.text + (f"@{fitted.revision}" if "@" in text or fitted.revision != MAIN else "")
    hash_known = known.sha256 if known and known.name == reference.file else None
    try:
        fetched = fetch(reference, output, hash_known, demanded)
    except NoGguf as error:
        return _checkpoint_from_hub(text, reference, error, output)
    origin = Origin(
        reference=text,
        source="hf",
        repository=fetched.repository,
        revision=fetched.revision,
        file=fetched.file,
        sha256=fetched.sha256,
        promised=fetched.promised,
    )
    name = _name_on_hub(replace(reference, file=fetched.file), wanted) or fetched.file
    return Place(fetched.path, origin, name, fetched.licences)


def _checkpoint_from_hub(text: str, reference: Reference, error: "NoGguf", output: Output) -> Place:
    """A repository without GGUF files, if it has what is converted; else that error."""
    from mkllm.builder.convert.checkpoint import CONFIG, checkpoint, is_checkpoint
    from mkllm.builder.model.hub_checkpoint import fetch_checkpoint

    if not is_checkpoint(error.names) or reference.quantization:
        raise error
    fetched = fetch_checkpoint(reference, error.names, output)
    name = reference.repository.rpartition("/")[2]
    found = checkpoint(fetched.files, name, reference.text)
    origin = Origin(text, "hf", reference.repository, fetched.revision, promised=fetched.promised)
    return Place(fetched.files[CONFIG].parent, origin, name, fetched.licences, found)


def as_reference(wanted: catalog.Wanted) -> Reference:
    """The file on the hub that a short name stands for."""
    revision = wanted.entry.revision or MAIN
    if file := wanted.file:
        return Reference(wanted.entry.repository, file.name, revision)
    return Reference(wanted.entry.repository, None, revision, wanted.quantization)


def _from_ollama(text: str) -> Place:
    model = ollama.find(text)
    texts = {f"LICENSE-{number}" if number else "LICENSE": path for number, path in enumerate(model.licences)}
    origin = Origin(text, "ollama", file=model.name, sha256=model.sha256)
    name = model.name.removesuffix(":latest").replace(":", "-").replace("/", "-")
    return Place(model.path, origin, name, texts, template=model.template)


def _from_address(text: str, output: Output) -> Place:
    fetched = address.fetch(text, output)
    origin = Origin(fetched.told, "url", file=address.local_name(fetched.told), sha256=fetched.sha256)
    return Place(fetched.path, origin, _stem(fetched.path.name))


def _stem(name: str) -> str:
    """A file's name without `.gguf` and the number of a part."""
    match = NAME.fullmatch(name)
    return match["stem"] if match else name.removesuffix(SUFFIX)


def _also_here(text: str, error: ModelNotFound) -> ModelNotFound:
    """The failure, with a file in this folder that is called nearly so."""
    near = _near(Path(text))
    return ModelNotFound(f"{error}; or did you mean {near!r}?") if near else error


def _suggestion(path: Path) -> str:
    near = _near(path)
    return f"did you mean {near!r}? Else {FORMS}" if near else FORMS


def _near(path: Path) -> str | None:
    place = path.parent if os.path.isdir(path.parent) else Path()
    try:
        known = sorted(str(found) for found in place.glob(f"*{SUFFIX}"))
    except OSError:
        return None
    near = difflib.get_close_matches(str(path), known, 1, 0.5)
    return near[0] if near else None
