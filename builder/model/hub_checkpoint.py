"""The files of a model that is to be converted, from the hub: configuration, tokenizer, weights, all of one commit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder.convert.checkpoint import CONFIG, beside, index_name, read_index, weight_names
from mkllm.builder.errors import MissingPart
from mkllm.builder.model import hub_cache
from mkllm.builder.model.download import check_space
from mkllm.builder.model.hub import Found, find, get_file, licences_of
from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.progress import Output


@dataclass(frozen=True)
class FetchedFolder:
    """Files on this machine by their names in the repository; `promised` are the hashes that the hub told of them."""

    files: Mapping[str, Path]
    revision: str
    promised: Mapping[Path, str]
    licences: Mapping[str, Path]


def fetch_checkpoint(reference: Reference, names: list[str], output: Output) -> FetchedFolder:
    """What converting takes of a repository with these files. Raises what fetching a file does, or MissingPart."""
    if CONFIG not in names:
        raise MissingPart(f"{reference.text!r} has no {CONFIG}, which converting needs: name another repository")
    first = find(replace(reference, file=CONFIG), output, None)
    pinned = first.reference
    found = {CONFIG: first, **_find(pinned, [name for name in beside(names) if name != CONFIG], output)}
    paths = {name: get_file(file, output) for name, file in found.items()}
    listed = index_name(names)
    wanted = weight_names(names, read_index(paths[listed]) if listed else None)
    if missing := [name for name in wanted if name not in names]:
        raise MissingPart(f"{reference.text!r} lacks {missing[0]!r}, which its weights are in: name another repository")
    weights = _find(pinned, wanted, output)
    if remotes := [file.remote for file in weights.values() if file.remote]:
        check_space(remotes, hub_cache.folder(reference.repository) / "blobs", hub_cache.ELSEWHERE)
    paths |= {name: get_file(file, output) for name, file in weights.items()}
    promised = {paths[name]: file.digest for name, file in (found | weights).items() if file.digest}
    kept = licences_of(Reference(reference.repository, None, pinned.revision), output)
    return FetchedFolder(paths, pinned.revision, promised, kept)


def _find(pinned: Reference, names: list[str], output: Output) -> dict[str, Found]:
    return {name: find(replace(pinned, file=name), output, None) for name in names}
