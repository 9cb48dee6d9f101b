"""A model as transformers keeps it: config.json, weights, tokenizer; found in a folder or among a repository's files.

What can be seen to be missing or damaged without PyTorch is refused here; converts nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.convert import limits, pickles, safetensors
from mkllm.builder.errors import DamagedCheckpoint, MissingPart, MissingTokenizer

CONFIG = "config.json"
SAFETENSORS_INDEX, PICKLES_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
SAFETENSORS = re.compile(r"model[^/]*\.safetensors")
PICKLES = re.compile(r"pytorch_model[^/]*\.bin")
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
# What the converter reads beside weights. No code: what a model brings as Python is never run.
BESIDE = re.compile(r"[^/]+\.(json|model|txt|tiktoken|jinja|spm)|README\.md|\d_\w+/config\.json")
TOKENIZER = re.compile(
    r".*(token|vocab|merges|spiece|tekken)[^/]*\.(json|model|txt|tiktoken|spm)|[^/]+\.(model|tiktoken|spm)"
)
TOKENIZER_SETTINGS = frozenset({"tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"})
BRINGS_TOKENIZER = ("Mamba",)  # architectures for which the converter has one itself
LARGEST_BESIDE = 1 << 28  # bytes; tokenizers have up to 40 MB
HALF, SINGLE = frozenset({"F16", "BF16"}), "F32"
LISTED = 3


@dataclass(frozen=True)
class Checkpoint:
    """A model that is whole as far as can be seen. `files` are what the converter gets, by name; `told` is what to call
    it in a sentence; `size` the bytes of its weights; `single`: they are kept in 32 bits, and none in 16; `window`: how
    many tokens back it sees, where llama.cpp shows it all."""

    name: str
    told: str
    files: Mapping[str, Path]
    weights: tuple[str, ...]
    size: int
    single: bool
    window: int | None = None


def is_checkpoint(names: Iterable[str]) -> bool:
    """Whether files of these names are such a model, or the remains of one."""
    known = set(names)
    return any(SAFETENSORS.fullmatch(name) or PICKLES.fullmatch(name) for name in known) or bool(
        known & {SAFETENSORS_INDEX, PICKLES_INDEX}
    )


def beside(names: Iterable[str]) -> list[str]:
    """Those that the converter reads and that are no weights."""
    return sorted(name for name in names if BESIDE.fullmatch(name))


def in_folder(folder: Path) -> dict[str, Path]:
    """The files of a folder that have to do with a model, by name."""
    names = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("[0-9]_*/config.json"))]
    wanted = [
        name for name in names if BESIDE.fullmatch(name) or SAFETENSORS.fullmatch(name) or PICKLES.fullmatch(name)
    ]
    return {name: folder / name for name in sorted(wanted) if (folder / name).is_file()}


def weight_names(names: Iterable[str], index: Mapping[str, Any] | None) -> list[str]:
    """The files that weights are in: the index's, else all with the usual name; safetensors if there are any."""
    if index is not None:
        return sorted(set(index.values()))
    known = list(names)
    found = [name for name in known if SAFETENSORS.fullmatch(name)]
    return sorted(_with_all_parts(found or [name for name in known if PICKLES.fullmatch(name)]))


def index_name(names: Iterable[str]) -> str | None:
    """The list of the weights' files, if there is one."""
    known = set(names)
    if SAFETENSORS_INDEX in known or any(SAFETENSORS.fullmatch(name) for name in known):
        return SAFETENSORS_INDEX if SAFETENSORS_INDEX in known else None
    return PICKLES_INDEX if PICKLES_INDEX in known else None


def read_index(path: Path) -> dict[str, str]:
    """Which file each tensor is in. Raises DamagedCheckpoint."""
    found = read_json(path).get("weight_map")
    plain = isinstance(found, dict) and all(isinstance(file, str) and _is_plain(file) for file in found.values())
    if not isinstance(found, dict) or not plain or not found:
        raise DamagedCheckpoint(f"{str(path)!r} does not list the files of the weights: copy or download it again")
    return found


def _is_plain(file: str) -> bool:
    return "/" not in file and "\\" not in file and file not in ("", ".", "..")


def read_json(path: Path) -> dict[str, Any]:
    """An object. Raises DamagedCheckpoint or PermissionFailure."""
    try:
        found = json.loads(path.read_bytes())
    except PermissionError:
        raise safetensors.forbidden(path) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise DamagedCheckpoint(f"{str(path)!r} cannot be read ({reason}): copy or download it again") from None
    if not isinstance(found, dict):
        raise DamagedCheckpoint(f"{str(path)!r} is not a JSON object: copy or download it again")
    return found


def _with_all_parts(names: list[str]) -> set[str]:
    """With those that the numbers in the names tell of."""
    found = set(names)
    for name in names:
        if match := PART.fullmatch(name):
            stem, count, suffix = match["stem"], match["count"], match["suffix"]
            found |= {f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1)}
    return found


def checkpoint(files: Mapping[str, Path], name: str, told: str) -> Checkpoint:
    """The model in these files.

    Raises UnsupportedArchitecture, MissingPart, MissingTokenizer, DamagedCheckpoint, UnsafePickle or PermissionFailure.
    """
    if CONFIG not in files:
        raise MissingPart(f"{told!r} has no {CONFIG}, which converting needs: get it from the source of the weights")
    config = read_json(files[CONFIG])
    limits.check(config, told)
    listed = index_name(files)
    index = read_index(files[listed]) if listed else None
    weights = weight_names(files, index)
    if missing := [file for file in weights if file not in files]:
        raise MissingPart(
            f"{told!r} lacks {_some(missing)} of the {len(weights)} files that its weights are in: copy or download "
            f"{'it' if len(missing) == 1 else 'them'}"
        )
    _expect_tokenizer(files, config, told)
    kept = {file: files[file] for file in (*beside(files), *weights)}
    kinds, size = _look(kept, weights, index, told)
    single = SINGLE in kinds and not kinds & HALF
    return Checkpoint(name, told, kept, tuple(weights), size, single, limits.window(config))


def _expect_tokenizer(files: Mapping[str, Path], config: Mapping[str, Any], told: str) -> None:
    if any(TOKENIZER.fullmatch(name) and name not in TOKENIZER_SETTINGS for name in files):
        return
    if not limits.architecture(config).startswith(BRINGS_TOKENIZER):
        raise MissingTokenizer(
            f"{told!r} has no tokenizer (tokenizer.json, tokenizer.model, …): get it from the source of the weights"
        )


def _look(
    files: Mapping[str, Path], weights: list[str], index: Mapping[str, str] | None, told: str
) -> tuple[set[str], int]:
    """The kinds of numbers in matrices, and the bytes of all weights."""
    if not weights[0].endswith(".safetensors"):
        found = [pickles.look(files[file]) for file in weights]
        storages = {name for pickled in found for name in pickled.storages}
        kinds = {SINGLE if name == pickles.FLOAT else "F16" if name in pickles.HALVES else name for name in storages}
        return kinds, sum(pickled.size for pickled in found)
    entries = [safetensors.entries(files[file]) for file in weights]
    names = {name for part in entries for name in part}
    if index and (missing := sorted(set(index) - names)):
        raise MissingPart(
            f"{told!r} lacks the weights {_some(missing)}, which its index lists: copy or download its files again"
        )
    tensors = [entry for part in entries for entry in part.values()]
    return {entry.dtype for entry in tensors if len(entry.shape) > 1}, sum(entry.size for entry in tensors)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more
