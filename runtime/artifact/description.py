"""What a manifest says, in words for people and as an object; verifies nothing."""

import json
from collections.abc import Callable
from typing import Any

from mkllm.runtime.artifact.manifest import PROJECTOR, Manifest
from mkllm.runtime.artifact.purpose import purpose

LONGEST = 200  # letters of a system prompt or a message
# What the frozen Python needs of the system where that is not a version of glibc.
FLOORS = {"windows-x86_64": "Windows 10", "macos-arm64": "macOS 13.3"}

Size = Callable[[int], str]


def as_object(path: str, length: int, manifest: Manifest) -> dict[str, Any]:
    """The file, its length in bytes, and its manifest as it stands in it."""
    return {"path": path, "size": length, "manifest": json.loads(manifest.to_bytes())}


def rows(path: str, length: int, manifest: Manifest, size: Size) -> list[tuple[str, str]]:
    """Names and values; `size` writes a number of bytes. Values are as they stand there, to be shown with `shown`."""
    return [("file", f"{path}, {size(length)}"), *_model(manifest, size), *_defaults(manifest), *_kit(manifest)]


def floor(target: str, glibc: str) -> str:
    """The oldest system that artifacts for this target run on, such as `glibc 2.17`."""
    return FLOORS.get(target, f"glibc {glibc}")


def projector(manifest: Manifest, size: Size) -> list[str]:
    """What the model takes beside text, in a line; none if nothing."""
    found, member = manifest.projector, manifest.member(PROJECTOR)
    if not found or not member:
        return []
    kinds = " and ".join(word for word, is_so in (("pictures", found.vision), ("sound", found.audio)) if is_so)
    return [f"for {kinds}, {size(member.size)}" + (f", {found.file}" if found.file else "")]


def members(manifest: Manifest, size: Size) -> list[tuple[str, str, str]]:
    """Name, size and the beginning of the SHA-256 of each."""
    return [(member.name, size(member.size), member.sha256[:16]) for member in manifest.members]


def _model(manifest: Manifest, size: Size) -> list[tuple[str, str]]:
    model, origin = manifest.model, manifest.provenance
    source = [origin.reference, *(f"revision {origin.revision}" for _ in range(1) if origin.revision)]
    return [
        ("name", manifest.name),
        ("model", f"{model.title or '(no title)'}: {model.architecture}, {model.parameters:,} parameters"),
        *(("purpose", f"{other.noun} ({model.pooling}): {other.path}") for other in [purpose(model)] if other),
        ("quantization", model.quantization),
        ("weights", f"prepacked for {manifest.prepacked.kernel}" if manifest.prepacked else "plain"),
        *(("beside", f"{fact.file}, {size(fact.size)}, {fact.sha256[:16]}") for fact in manifest.beside),
        ("context", f"{model.context} tokens trained"),
        *(("projector", line) for line in projector(manifest, size)),
        ("chat template", "the maker's" if manifest.defaults.chat_template else "yes" if model.chat_template else "no"),
        ("licence", model.license or "not stated"),
        ("from", ", ".join(source)),
        ("SHA-256", origin.sha256),
    ]


def _defaults(manifest: Manifest) -> list[tuple[str, str]]:
    chosen = manifest.defaults
    prompt = chosen.system_prompt
    return [
        ("system prompt", "none" if prompt is None else _short(prompt)),
        *(("example", f"{message.role}: {_short(message.content)}") for message in chosen.messages),
        ("context in use", f"{chosen.context or manifest.model.context} tokens"),
        (
            "sampling",
            ", ".join(f"{name} {value}" for name, value in chosen.sampling.items()) or "the engine's defaults",
        ),
        ("address", f"{chosen.host}:{chosen.port}"),
        ("engine arguments", " ".join(chosen.engine_args) or "none"),
    ]


def _short(text: str) -> str:
    return text[:LONGEST] + ("…" if len(text) > LONGEST else "")


def _kit(manifest: Manifest) -> list[tuple[str, str]]:
    kit = manifest.kit
    return [
        ("made by", manifest.created_by),
        ("runs on", f"{manifest.target}, {floor(manifest.target, kit.glibc)} or newer"),
        ("kit", f"{kit.id}, llama-cpp-python {kit.llama_cpp}, Python {kit.python}"),
        ("backends", ", ".join(backend.name for backend in manifest.backends)),
    ]
