"""LoRA adapters that go into an artifact: GGUF files, or folders as PEFT keeps them, which are converted."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.convert.checkpoint import CONFIG, in_folder, read_json
from mkllm.builder.convert.converter import convert
from mkllm.builder.convert.environment import environment, key
from mkllm.builder.convert.model import KEY_DIGITS, digest
from mkllm.builder.convert.safetensors import entries
from mkllm.builder.convert.staging import staged
from mkllm.builder.errors import UnusableAdapter
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.progress import Output
from mkllm.builder.space import check_free
from mkllm.runtime.artifact.manifest import ADAPTERS

SCRIPT = "convert_lora_to_gguf.py"
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
UNKNOWN = ("use_rslora", "alpha_pattern", "use_dora")
BASE = "base_model_name_or_path"
OTHER = re.compile(r"[^A-Za-z0-9._-]")


def adapters(paths: Sequence[Path], model: str, architecture: str, output: Output) -> dict[str, Path]:
    """Adapters for a model that was named `model`, by the names of members. Raises a BuilderFailure."""
    found: dict[str, Path] = {}
    for path in paths:
        file = _converted(path, model, output) if path.is_dir() else path
        _expect_adapter(file, path, architecture)
        stem = OTHER.sub("_", path.name.removesuffix(".gguf") or path.absolute().name)
        found[f"{ADAPTERS}{len(found):02}-{stem}.gguf"] = file
    return found


def _expect_adapter(file: Path, path: Path, architecture: str) -> None:
    header = read_gguf(file)
    if header.text("general.type") != "adapter" or header.text("adapter.type") != "lora":
        raise UnusableAdapter(f"{str(path)!r} is no LoRA adapter: name one as GGUF, or a folder as PEFT saves it")
    if (found := header.text("general.architecture")) != architecture:
        raise UnusableAdapter(
            f"{str(path)!r} is an adapter for the architecture {found!r:.60}, the model has {architecture!r}: name the "
            "model that it was trained on"
        )


def _converted(folder: Path, model: str, output: Output) -> Path:
    """The adapter of a PEFT folder as GGUF, in the cache."""
    settings = _settings(folder)
    files = {name: folder / name for name in (SETTINGS, WEIGHTS)}
    base = _base(folder, model, settings)
    size = sum(entry.size for entry in entries(files[WEIGHTS]).values()) * 2  # written in 32 bits
    used = {**files, CONFIG: base[CONFIG]}
    digests = {name: digest(path, output) for name, path in used.items()}
    text = json.dumps([digests, key()], sort_keys=True)
    place = cache.folder("converted") / f"{hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]}.gguf"
    with cache.locked(place.with_suffix(".lock")):
        if not place.exists():
            with staged(files, "adapter") as adapter, staged({CONFIG: base[CONFIG]}, "base") as config:
                made = environment(output)
                check_free(place.parent, size, f"{str(folder)!r} as GGUF in {str(place.parent)!r}", cache.ELSEWHERE)
                convert(made, SCRIPT, [adapter, "--base", config], str(folder), size, place, output)
    return place


def _settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a folder that has what is converted."""
    if missing := [name for name in (SETTINGS, WEIGHTS) if not (folder / name).is_file()]:
        raise UnusableAdapter(f"{str(folder)!r} has no {missing[0]}: name a folder as PEFT saves it, or a GGUF file")
    settings = read_json(folder / SETTINGS)
    if settings.get("peft_type", "LORA") != "LORA":
        raise UnusableAdapter(f"{str(folder)!r} is an adapter of the kind {settings['peft_type']!r}: name one of LORA")
    for name in UNKNOWN:  # by which the strength of an adapter is another than alpha / r
        if settings.get(name):
            raise UnusableAdapter(
                f"{str(folder)!r} was trained with {name}, which llama.cpp's converter passes over: merge it into its "
                "model with PEFT, and name that"
            )
    return settings


def _base(folder: Path, model: str, settings: Mapping[str, Any]) -> dict[str, Path]:
    """The files of the model that the adapter is for: MODEL, if it is a folder, else what the adapter names."""
    told = settings.get(BASE)
    for place in (Path(model), *([Path(told), folder / told] if isinstance(told, str) and told else [])):
        if place.is_dir() and CONFIG in (files := in_folder(place)):
            return files
    raise UnusableAdapter(
        f"{str(folder)!r} is converted by the {CONFIG} of its model, {told!r}: name as MODEL a folder that has it, or "
        "give the adapter as GGUF"
    )
