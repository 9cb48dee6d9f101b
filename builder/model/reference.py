"""What MODEL on the command line stands for: a short name, a file here, on the hub, at an address, or in a store."""

import contextlib
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mkllm.builder.errors import ModelNotFound
from mkllm.builder.model import address, catalog, folder, licences, ollama
from mkllm.builder.model.facts import facts
from mkllm.builder.model.hub_reference import MAIN, PREFIX, Reference, check_endpoint, parse
from mkllm.builder.model.split import NAME, merged, read_parts
from mkllm.builder.model.weights import Weights
from mkllm.builder.name import name_after
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.manifest import Model

DEMO = "demo"
DEMO_FILE = Path(__file__).resolve().parent.parent / "demo" / "demo.gguf"
SUFFIX = ".gguf"
FORMS = f"name a .gguf file, {PREFIX}organisation/repository/file.gguf, or {DEMO!r}"
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

    `licences` are files that came with it, by their names.
    """

    path: Path
    origin: Origin
    name: str
    licences: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A model found: its first file, its bytes, its facts, where it is from, and what to call it.

    `licences` are texts that go into the artifact, by the names of members.
    """

    path: Path
    weights: Weights
    model: Model
    origin: Origin
    name: str
    licences: Mapping[str, Path] = field(default_factory=dict)


def resolve(text: str, output: Output) -> Source:
    """Find a model, downloading it if need be, and check it. Raises a BuilderFailure."""
    place = locate(text, output)
    parts = read_parts(place.path)
    tensors = [tensor for part in parts for tensor in part.tensors]
    return Source(
        parts[0].path,
        merged(parts),
        facts(parts[0], tensors),
        place.origin,
        name_after(place.name),
        licences.members(place.licences),
    )


def locate(text: str, output: Output) -> Place:
    """Find a model's files, downloading them if need be; does not read them. Raises a BuilderFailure."""
    if text == DEMO:
        return Place(DEMO_FILE, Origin(DEMO, "demo"), DEMO)
    if text.startswith(PREFIX):
        return _from_hub(text, parse(text), output)
    if text.startswith(ollama.PREFIX):
        return _from_ollama(text)
    if address.is_address(text):
        on_hub = address.on_hub(text)
        return _from_hub(text, on_hub, output) if on_hub else _from_address(text, output)
    path = Path(text)
    if not _is_missing(path):
        return _from_path(path)
    if text.endswith(SUFFIX):
        return _from_file(path)
    if ALIAS.fullmatch(text):
        return _from_catalog(text, output)
    raise ModelNotFound(f"there is no model {text!r}: {_suggestion(path)}")


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
            return _from_file(folder.only_model(path))
        if path.is_file() and folder.is_modelfile(path):
            raise folder.refuse_modelfile(path)
    return _from_file(path)


def _from_file(path: Path) -> Place:
    told = os.fsencode(path.name).decode(errors="replace")
    return Place(path, Origin(told, "file", file=told), _stem(path.name))


def _from_hub(text: str, reference: Reference, output: Output, wanted: catalog.Wanted | None = None) -> Place:
    check_endpoint()
    from mkllm.builder.model.hub import fetch  # half a second of imports that local files do not need

    known = wanted.file.sha256 if wanted and wanted.file else None
    fetched = fetch(reference, output, known)
    origin = Origin(
        reference=text,
        source="hf",
        repository=fetched.repository,
        revision=fetched.revision,
        file=fetched.file,
        sha256=fetched.sha256,
        promised=fetched.promised,
    )
    name = wanted.entry.alias if wanted else _stem(os.path.basename(fetched.file))
    return Place(fetched.path, origin, name, fetched.licences)


def _from_catalog(text: str, output: Output) -> Place:
    try:
        wanted = catalog.find(text)
    except ModelNotFound as error:
        raise _also_here(text, error) from None
    return _from_hub(text, as_reference(wanted), output, wanted)


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
    return Place(model.path, origin, model.name.removesuffix(":latest").replace(":", "-").replace("/", "-"), texts)


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
