"""Model files on the Hugging Face hub, through huggingface_hub; kept in the cache that other tools share."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from mkllm.builder.errors import HubFailure, ModelNotFound
from mkllm.builder.model.download import Remote, attempt, download
from mkllm.builder.model.hub_errors import TRANSPORT, Offline, ask, list_models, model_sizes
from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.model.promise import DIGEST
from mkllm.builder.model.quantizations import Quantization, models, of_same_model, quantizations
from mkllm.builder.model.split import part_names
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.draft import failure

TIMEOUT = 20.0  # seconds without a byte
COMMIT_DIGITS = 40


@dataclass(frozen=True)
class Fetched:
    """A model file in the cache, its other parts beside it.

    `revision` is the commit, `file` the name in the repository, `sha256` what the hub promises of a whole model.
    `promised` are the hashes of files for which that cannot stand: parts, and small ones that have git's SHA-1.
    """

    path: Path
    repository: str
    revision: str
    file: str
    sha256: str | None
    promised: Mapping[Path, str]


def fetch(reference: Reference, output: Output) -> Fetched:
    """The file, downloaded unless the cache has it, with all its parts if it is split.

    Raises ModelNotFound, HubFailure, WrongHash, NoSpace or PermissionFailure.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it warns of is said here
    file = reference.file or _only_model(reference, output)
    whole = PurePosixPath(file)
    found: dict[str, Path] = {}
    revision = reference.revision
    for part in part_names(whole.name):
        name = str(whole.with_name(part))
        found[name] = _fetch_one(Reference(reference.repository, name, revision), output)
        revision = _commit(found[name], name)
    blobs = {path: path.resolve().name for path in found.values()}  # the cache names its blobs by their hash
    promised = {path: name for path, name in blobs.items() if DIGEST.fullmatch(name)}
    alone = len(blobs) == 1 and len(promised.get(found[file], "")) == 64
    sha256 = promised.pop(found[file]) if alone else None
    return Fetched(found[file], reference.repository, revision, file, sha256, promised)


def fitting(reference: Reference, room: int, output: Output) -> tuple[Quantization | None, list[Quantization]]:
    """The largest quantization of a model that has at most `room` bytes, and all that there are.

    A reference that names a repository alone has to be one of a single model. Raises ModelNotFound or HubFailure.
    """
    sizes = attempt(lambda: ask(reference, lambda: model_sizes(reference)), output)
    found = quantizations(sizes)
    if reference.file:
        whole = PurePosixPath(reference.file)
        first = str(whole.with_name(part_names(whole.name)[0]))
        found = of_same_model(first, found)
    elif len(models(found)) != 1:
        _only_model(reference, output)  # which says what is wrong
    return next((item for item in found if item.size <= room), None), found


def _only_model(reference: Reference, output: Output) -> str:
    """The file meant by a reference that names a repository alone."""
    try:
        files = attempt(lambda: ask(reference, lambda: list_models(reference)), output)
    except Offline:
        raise Offline(f"{reference.text!r} names no file, and HF_HUB_OFFLINE is set: name one, or unset it") from None
    if len({part_names(name)[0] for name in files}) == 1:
        return files[0]
    if not files:
        raise ModelNotFound(f"{reference.text!r} has no GGUF files: name another repository")
    listed = ", ".join(files[:5]) + (", …" if len(files) > 5 else "")
    raise ModelNotFound(f"{reference.text!r} has {len(files)} GGUF files: name one ({listed})")


def _fetch_one(reference: Reference, output: Output) -> Path:
    """One file's path in the cache."""
    if len(reference.revision) == COMMIT_DIGITS and (known := _cached(reference)):
        return known
    try:
        remote, commit = attempt(lambda: ask(reference, lambda: _look_up(reference)), output)
    except HubFailure as error:
        return _older(reference, error, output)
    pinned = Reference(reference.repository, reference.file, commit)
    return _cached(pinned) or _download(remote, pinned, reference.revision, output)


def _look_up(reference: Reference) -> tuple[Remote, str]:
    """What the hub says of a file, and the commit that the revision stands for."""
    metadata = get_hf_file_metadata(_url(reference), timeout=TIMEOUT)
    commit, digest, length = metadata.commit_hash, metadata.etag, metadata.size
    if not commit or not digest or length is None:
        raise HubFailure(f"what answers at {constants.ENDPOINT} is no model hub: check HF_ENDPOINT and the proxy")
    pinned = Reference(reference.repository, reference.file, commit)
    name = PurePosixPath(reference.file or "").name
    return Remote(name, length, digest, lambda offset: _stream(pinned, offset)), commit


@contextlib.contextmanager
def _stream(reference: Reference, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The file from `offset`; or from its start, if the server does not do parts."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with contextlib.ExitStack() as stack:
        response = ask(reference, lambda: stack.enter_context(_get(_url(reference), headers)))
        ask(reference, lambda: hf_raise_for_status(response))
        start = offset if response.status_code == 206 else 0
        yield start, _chunks(response.iter_bytes())


def _get(url: str, headers: dict[str, str]) -> Any:
    return get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT)


def _chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What comes until the end, or until the connection is cut: whoever counts the bytes sees that some are missing."""
    with contextlib.suppress(TRANSPORT):
        yield from chunks


def _older(reference: Reference, error: HubFailure, output: Output) -> Path:
    """What was downloaded before under this name, now that the hub does not answer."""
    known = _cached(reference)
    if not known:
        raise error
    why = "HF_HUB_OFFLINE is set" if isinstance(error, Offline) else error
    output.note(f"using the copy of {reference.text!r} that was downloaded before: {why}")
    return known


def _download(remote: Remote, pinned: Reference, revision: str, output: Output) -> Path:
    """Download into the cache, laid out as huggingface_hub does: blobs by hash, links to them by commit and name."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=pinned.repository, repo_type="model")
    blob = folder / "blobs" / remote.digest
    link = folder / "snapshots" / pinned.revision / (pinned.file or "")
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        download(remote, blob, output)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(os.path.relpath(blob, link.parent))
        if revision != pinned.revision:
            ref = folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(pinned.revision)
    except OSError as error:
        raise failure(error, blob) from error
    return link


def _cached(reference: Reference) -> Path | None:
    known = try_to_load_from_cache(reference.repository, reference.file or "", revision=reference.revision)
    return Path(known) if isinstance(known, str) else None


def _commit(path: Path, file: str) -> str:
    """The commit in a path of the cache, `…/snapshots/<commit>/<file>`."""
    return path.parents[len(PurePosixPath(file).parts) - 1].name


def _url(reference: Reference) -> str:
    return hf_hub_url(reference.repository, reference.file or "", revision=reference.revision)
