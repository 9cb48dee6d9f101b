"""What MODEL on the command line stands for: `demo`, a local GGUF file, or a file on the hub."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mkllm.builder.errors import HubFailure, ModelNotFound, TooLarge
from mkllm.builder.model.facts import facts
from mkllm.builder.model.hub_reference import PREFIX, Reference, check_endpoint, parse
from mkllm.builder.model.split import NAME, merged, read_parts
from mkllm.builder.model.weights import Weights
from mkllm.builder.name import name_after
from mkllm.builder.progress import Output, size
from mkllm.runtime.artifact.manifest import Model

DEMO = "demo"
DEMO_FILE = Path(__file__).resolve().parent.parent / "demo" / "demo.gguf"
SUFFIX = ".gguf"


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
class Source:
    """A model found: its first file, its bytes, its facts, where it is from, and what to call it."""

    path: Path
    weights: Weights
    model: Model
    origin: Origin
    name: str


def resolve(text: str, output: Output, room: int | None = None) -> Source:
    """Find a model, downloading it if need be, and check it. Raises a BuilderFailure.

    Of one on the hub it is the largest quantization of at most `room` bytes, if that is said.
    """
    if text == DEMO:
        return _source(DEMO_FILE, Origin(DEMO, "demo"), DEMO)
    if text.startswith(PREFIX):
        return _from_hub(text, output, room)
    path = Path(text)
    if _is_missing(path) and not text.endswith(SUFFIX):
        raise ModelNotFound(f"there is no model {text!r}: {_suggestion(path)}")
    told = os.fsencode(path.name).decode(errors="replace")
    return _source(path, Origin(told, "file", file=told), _stem(path.name))


def _is_missing(path: Path) -> bool:
    """Whether there is nothing; False where that cannot be seen: opening it will say why."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def offer(text: str, room: int) -> str | None:
    """The largest quantization of at most `room` bytes, in words; None if there is none, and of models here."""
    if not text.startswith(PREFIX):
        return None
    from mkllm.builder.model.hub import fitting

    try:
        found, _ = fitting(parse(text), room, Output(quiet=True))
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
    return replace(reference, file=found.file)


def _from_hub(text: str, output: Output, room: int | None) -> Source:
    reference = parse(text)
    check_endpoint()
    from mkllm.builder.model.hub import fetch  # half a second of imports that local files do not need

    if room is not None:
        reference = _fitted(reference, room, output)
        text = reference.text + (f"@{reference.revision}" if "@" in text else "")
    fetched = fetch(reference, output)
    origin = Origin(
        reference=text,
        source="hf",
        repository=fetched.repository,
        revision=fetched.revision,
        file=fetched.file,
        sha256=fetched.sha256,
        promised=fetched.promised,
    )
    return _source(fetched.path, origin, _stem(fetched.path.name))


def _source(path: Path, origin: Origin, name: str) -> Source:
    parts = read_parts(path)
    tensors = [tensor for part in parts for tensor in part.tensors]
    return Source(parts[0].path, merged(parts), facts(parts[0], tensors), origin, name_after(name))


def _stem(name: str) -> str:
    """A file's name without `.gguf` and the number of a part."""
    match = NAME.fullmatch(name)
    return match["stem"] if match else name.removesuffix(SUFFIX)


def _suggestion(path: Path) -> str:
    folder = path.parent if os.path.isdir(path.parent) else Path()
    try:
        known = [DEMO, *sorted(str(found) for found in folder.glob(f"*{SUFFIX}"))]
    except OSError:
        known = [DEMO]
    near = difflib.get_close_matches(str(path), known, 1, 0.5)
    forms = f"name a .gguf file, {PREFIX}organisation/repository/file.gguf, or {DEMO!r}"
    return f"did you mean {near[0]!r}? Else {forms}" if near else forms
