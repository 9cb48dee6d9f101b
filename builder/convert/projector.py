"""The part of a checkpoint that takes pictures or sound, as a projector: converted once, kept in the cache."""

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.convert.checkpoint import CONFIG, Checkpoint, read_json
from mkllm.builder.convert.converter import convert
from mkllm.builder.convert.environment import environment
from mkllm.builder.convert.model import SCRIPT, checkpoint_key
from mkllm.builder.convert.safetensors import entries
from mkllm.builder.convert.staging import staged
from mkllm.builder.errors import (
    DamagedCheckpoint,
    MissingPart,
    MissingTokenizer,
    ToolFailed,
    UnsafePickle,
    UnsupportedArchitecture,
    UnusableProjector,
)
from mkllm.builder.model import promise
from mkllm.builder.progress import Output
from mkllm.builder.space import check_free

# How configurations and tensors call such parts.
PARTS = ("vision", "audio", "whisper", "visual", "image", "encoder_config")
TENSORS = ("vision", "visual", "audio", "projector", "connector", "resampler", "merger", "mm_", "speech")
LEAST = 1 << 20  # bytes
REFUSALS = (UnsupportedArchitecture, MissingPart, MissingTokenizer, DamagedCheckpoint, UnsafePickle, ToolFailed)


@functools.cache
def architectures() -> frozenset[str]:
    """Those of which the converter makes projectors."""
    text = resources.files("mkllm.builder.convert").joinpath("projectors.toml").read_text("utf-8")
    return frozenset(tomllib.loads(text)["architectures"])


def converted_projector(source: Checkpoint, promised: Mapping[Path, str], output: Output) -> Path | None:
    """The GGUF file in the cache, made now unless it is there: in 32 bits if the weights are, else in F16.

    None where its configuration tells of no such part. `promised` are hashes that files must have. Raises
    UnusableProjector for one that is not converted.
    """
    if not has_part(read_json(source.files[CONFIG])):
        return None
    kind = "f32" if source.single else "f16"
    place = cache.folder("converted") / f"{checkpoint_key(source, promised, f'mmproj {kind}', output)}.gguf"
    with cache.locked(place.with_suffix(".lock")):
        if not place.exists():
            promise.check(promised, output)
            size = _size(source)
            with staged(source.files, source.name) as folder:
                made = environment(output)
                what = f"the projector of {source.told!r} in {str(place.parent)!r}"
                check_free(place.parent, size, what, cache.ELSEWHERE)
                words: list[str | Path] = [folder, "--mmproj", "--outtype", kind]
                try:
                    convert(made, SCRIPT, words, f"the projector of {source.told}", size, place, output)
                except REFUSALS as failure:
                    raise UnusableProjector(f"{failure}; --mmproj none leaves it out") from None
    return place


def has_part(config: Mapping[str, Any]) -> bool:
    """Whether a config.json tells of a part for pictures or sound, of which the converter makes a projector."""
    named = config.get("architectures")
    known = isinstance(named, list) and any(str(name) in architectures() for name in named)
    inner = [value for value in config.values() if isinstance(value, dict)]
    return known and any(_names_part(found) for found in (config, *inner))


def _names_part(config: Mapping[str, Any]) -> bool:
    return any(
        isinstance(value, dict) and value and any(part in key for part in PARTS) for key, value in config.items()
    )


def _size(source: Checkpoint) -> int:
    """About how many bytes it will have: those of the tensors that are called so."""
    if not source.weights[0].endswith(".safetensors"):
        return max(LEAST, source.size // 8)
    tensors = [item for file in source.weights for item in entries(source.files[file]).items()]
    found = sum(entry.size for name, entry in tensors if any(part in name for part in TENSORS))
    return max(LEAST, found)
