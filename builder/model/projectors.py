"""Projectors, by which a model takes pictures or sound: found beside it, whatever it is from; judges none."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mkllm.builder.errors import BuilderFailure, HubFailure
from mkllm.builder.model import ollama, quant
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.model.passing import Passing
from mkllm.builder.model.quantizations import Quantization, models
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.manifest import Projector

if TYPE_CHECKING:
    from mkllm.builder.model.reference import Place

WORD, SUFFIX = "mmproj", ".gguf"
ARCHITECTURE = "clip"
# The better first: what projectors are published in. In 8 bits they see less, in 32 no more.
PREFERRED = ("F16", "BF16", "Q8_0", "F32")


@dataclass(frozen=True)
class Companion:
    """A projector on this machine; `told` is what to call it in a sentence, `file` its name where it is from.

    `sha256` is what was promised of it; `by_itself`: nobody named it. `facts` once it was looked at.
    """

    path: Path
    told: str
    file: str | None
    sha256: str | None = None
    by_itself: bool = True
    facts: Projector | None = None

    @property
    def promised(self) -> dict[Path, str]:
        """The hash that its file must have, if one is known."""
        return {self.path: self.sha256} if self.sha256 else {}


def beside(place: "Place", output: Output) -> Companion | None:
    """The one that accompanies a model that is not converted; None where there is none.

    Raises what fetching a file does.
    """
    origin = place.origin
    if origin.source == "hf" and origin.repository and origin.revision and origin.file:
        return _on_hub(origin.repository, origin.revision, origin.file, output)
    if origin.source == "ollama":
        model = ollama.find(origin.reference)
        told = f"the projector of {origin.reference}"
        return next((Companion(path, told, path.name, digest) for path, digest in model.projectors), None)
    return in_folder(place.path) if origin.source == "file" else None


def in_folder(model: Path) -> Companion | None:
    """The best of those that lie in a model's folder, if that has no other model."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = [path.name for path in model.parent.iterdir() if path.is_file()]
    whole = [Quantization(name, 0) for name in quant.models(names)]
    found = best(names) if len(models(whole)) == 1 else None
    return Companion(model.parent / found, found, found) if found else None


def best(names: Iterable[str]) -> str | None:
    """The projector to prefer among files of these names."""
    return min((name for name in names if is_projector(name)), key=_rank, default=None)


def is_one(path: Path) -> bool:
    """Whether a file is a projector, whatever it is called; False where it cannot be read."""
    try:
        header = read_gguf(path)
    except BuilderFailure:
        return False
    return header.text("general.architecture") == ARCHITECTURE


def is_projector(name: str) -> bool:
    """Whether a file is one, by its name."""
    base = PurePosixPath(name).name.lower()
    return WORD in base and base.endswith(SUFFIX)


def _rank(name: str) -> tuple[int, str]:
    kind = quant.quantization(name)
    return PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED), name


def _near(file: str, names: Iterable[str]) -> str | None:
    """The best of those in the model's own folder, else in those around it."""
    known = list(names)
    folders = [str(folder) for folder in PurePosixPath(file).parents]
    within = [[name for name in known if str(PurePosixPath(name).parent) == folder] for folder in folders]
    return next(filter(None, map(best, within)), None)


def _on_hub(repository: str, revision: str, file: str, output: Output) -> Companion | None:
    from mkllm.builder.model import hub, hub_cache
    from mkllm.builder.model.hub_errors import Offline
    from mkllm.builder.model.hub_reference import Reference

    found = _near(file, hub_cache.files(repository, revision))
    if not found or _rank(found)[0]:  # else there is no better one to be had
        try:
            found = _near(file, hub.names(Reference(repository, None, revision)))
        except (HubFailure, Passing) as error:
            if not found:
                why = "offline" if isinstance(error, Offline) else error
                output.note(f"note: whether {repository!r} has a projector could not be looked up: {why}")
    if not found:
        return None
    path, digest = hub.fetch_beside(Reference(repository, found, revision), output)
    return Companion(path, found, found, digest)
