"""The store of Ollama on this machine: its manifests, and its blobs, of which those of models are GGUF files."""

import contextlib
import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.errors import ModelNotFound, PermissionFailure, UnusableModel

PREFIX = "ollama:"
VARIABLE = "OLLAMA_MODELS"
REGISTRY, LIBRARY, LATEST = "registry.ollama.ai", "library", "latest"
SERVICE = (
    Path("/usr/share/ollama/.ollama/models"),
    Path("/var/lib/ollama/.ollama/models"),
    Path("/var/lib/ollama/models"),
)
LAYER = "application/vnd.ollama.image."
NEAR = 3
FORM = "write ollama:name or ollama:name:tag, as `ollama list` does"


@dataclass(frozen=True)
class Model:
    """A model in the store; `name` is as `ollama list` shows it, `licences` are texts that come with it, and so is
    `template`, in Go's language.

    `projectors`, with their SHA-256, are files by which it takes pictures or sound.
    """

    name: str
    path: Path
    sha256: str
    licences: tuple[Path, ...]
    adapted: bool
    template: Path | None = None
    projectors: tuple[tuple[Path, str], ...] = ()


def find(text: str) -> Model:
    """The model that `ollama:name[:tag]` names. Raises ModelNotFound, UnusableModel when one of its blobs is
    missing, or PermissionFailure when one may not be read."""
    name = text.removeprefix(PREFIX)
    parts = name.split("/")
    if not name or ".." in parts or not all(parts) or len(parts) > 3 or name.endswith(":"):
        raise ModelNotFound(f"{text!r} does not name a model of Ollama: {FORM}")
    if not roots():
        places = ", ".join(repr(str(path)) for path in _places())
        raise ModelNotFound(
            f"{text!r} is not here: this machine has no store of Ollama (looked in {places}); set {VARIABLE} to it"
        )
    for root in roots():
        manifest = root / "manifests" / _path(name)
        if _is_file(manifest, text):
            return _whole(_read(manifest, root, text), text)
    known = [model.name for model in models()]
    near = difflib.get_close_matches(name, known, NEAR, 0.3) or known[:NEAR]
    meant = f"did you mean {' or '.join(repr(PREFIX + other) for other in near)}? " if near else "it is empty; "
    raise ModelNotFound(
        f"there is no model {text!r} in Ollama's store: {meant}`mkllm models --local` lists what is here"
    )


def _is_file(path: Path, text: str) -> bool:
    """Whether there is such a file. Raises PermissionFailure where that may not be seen."""
    try:
        return path.is_file()
    except PermissionError:
        raise _closed(text, path) from None
    except OSError:  # such as a name that no file can have
        return False


def _closed(text: str, path: Path) -> PermissionFailure:
    return PermissionFailure(
        f"{text!r} cannot be taken from Ollama's store: {str(path)!r} may not be read; check its permissions"
    )


def _broken(path: Path, error: OSError) -> UnusableModel:
    return UnusableModel(f"{str(path)!r} cannot be read ({(error.strerror or '?').lower()}): check its disk")


def _missing(path: Path, text: str) -> UnusableModel:
    return UnusableModel(f"{text!r} is not whole: {str(path)!r} is missing; pull it again with Ollama")


def _expect_readable(path: Path, text: str) -> None:
    """Raise UnusableModel or PermissionFailure for a blob that cannot be read."""
    if not _is_file(path, text):
        raise _missing(path, text)
    try:
        path.open("rb").close()
    except PermissionError:
        raise _closed(text, path) from None
    except OSError as error:
        raise _broken(path, error) from None


def _whole(model: Model, text: str) -> Model:
    others = [*model.licences, *([model.template] if model.template else []), *(path for path, _ in model.projectors)]
    for path in (model.path, *others):
        _expect_readable(path, text)
    if model.adapted:
        raise UnusableModel(
            f"{text!r} is a model and an adapter, which this version does not put together: merge them first, and name "
            "the .gguf file"
        )
    return model


def models() -> Iterator[Model]:
    """All models in the stores of this machine; damaged ones are left out."""
    for root in roots():
        for manifest in sorted((root / "manifests").rglob("*")):
            with contextlib.suppress(UnusableModel, PermissionFailure):
                if _is_file(manifest, str(manifest)):
                    yield _read(manifest, root, str(manifest))


def blob(sha256: str) -> Path | None:
    """The blob with this hash, if a store has it."""
    for root in roots():
        path = root / "blobs" / f"sha256-{sha256}"
        with contextlib.suppress(OSError):
            if path.is_file():
                return path
    return None


def roots() -> list[Path]:
    """The stores on this machine: OLLAMA_MODELS, the user's, the service's."""
    found: list[Path] = []
    for place in _places():
        with contextlib.suppress(OSError):
            if (place / "manifests").is_dir() and place not in found:
                found.append(place)
    return found


def _places() -> list[Path]:
    chosen = os.environ.get(VARIABLE)
    home = os.path.expanduser("~")
    usual = [Path(home) / ".ollama" / "models"] if home != "~" else []
    return [*([Path(chosen)] if chosen else []), *usual, *SERVICE]


def _path(name: str) -> Path:
    """Where a name's manifest lies: registry, namespace, model, tag."""
    base, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        base, tag = name, LATEST
    parts = base.split("/")
    host, *rest = parts if len(parts) == 3 else (REGISTRY, *parts)
    return Path(host, *(rest if len(rest) == 2 else (LIBRARY, *rest)), tag)


def _name(manifest: Path, root: Path) -> str:
    """The opposite of `_path`."""
    host, space, model, tag = ([*manifest.relative_to(root / "manifests").parts, "", "", "", ""])[:4]
    base = model if (host, space) == (REGISTRY, LIBRARY) else f"{space}/{model}"
    return f"{base if host == REGISTRY else f'{host}/{space}/{model}'}:{tag}"


def _read(manifest: Path, root: Path, text: str) -> Model:
    try:
        told = manifest.read_bytes()
    except PermissionError:
        raise _closed(text, manifest) from None
    except OSError as error:
        raise _broken(manifest, error) from None
    try:
        layers = json.loads(told)["layers"]
        found: dict[str, list[str]] = {}
        for layer in layers:
            found.setdefault(_kind(layer), []).append(_digest(layer))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UnusableModel(f"{str(manifest)!r} is no manifest of Ollama's: pull the model again with Ollama") from None
    if not found.get("model"):
        raise UnusableModel(
            f"{text!r} has no weights in Ollama's store (a model that runs elsewhere): name another one"
        )
    if len(found["model"]) > 1:
        raise UnusableModel(f"{text!r} has {len(found['model'])} files of weights in Ollama's store: name a .gguf file")
    path = root / "blobs" / f"sha256-{found['model'][0]}"
    if not _is_file(path, text):
        raise _missing(path, text)
    licences = tuple(root / "blobs" / f"sha256-{digest}" for digest in found.get("license", ()))
    templates = [root / "blobs" / f"sha256-{digest}" for digest in found.get("template", ())]
    projectors = tuple((root / "blobs" / f"sha256-{digest}", digest) for digest in found.get("projector", ()))
    return Model(
        _name(manifest, root),
        path,
        found["model"][0],
        licences,
        bool(found.get("adapter")),
        templates[-1] if templates else None,
        projectors,
    )


def _kind(layer: dict[str, Any]) -> str:
    return str(layer["mediaType"]).removeprefix(LAYER)


def _digest(layer: dict[str, Any]) -> str:
    kind, _, digest = str(layer["digest"]).partition(":")
    if kind != "sha256" or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError
    return digest
