"""Model files on the Hugging Face hub, through huggingface_hub; kept in the cache that other tools share."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from mkllm.builder.convert.checkpoint import is_checkpoint
from mkllm.builder.errors import BuilderFailure, HubFailure, ModelNotFound, WrongHash
from mkllm.builder.model import hub_cache, licences, quant
from mkllm.builder.model.download import Remote, attempt, check_space, download
from mkllm.builder.model.hub_errors import TRANSPORT, Offline, ask, list_files, model_sizes
from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.model.passing import Passing
from mkllm.builder.model.projectors import SUFFIX, WORD, best
from mkllm.builder.model.promise import DIGEST
from mkllm.builder.model.quantizations import Quantization, models, of_same_model, quantizations
from mkllm.builder.model.split import check_whole, part_names
from mkllm.builder.model.stores import copy_of
from mkllm.builder.model.together import together
from mkllm.builder.progress import Output

TIMEOUT = 20.0  # seconds without a byte
COMMIT_DIGITS = 40
LISTED = 5


class NoGguf(ModelNotFound):
    """A repository without GGUF files; `names` are the files that it has."""

    def __init__(self, text: str, names: list[str]) -> None:
        super().__init__(text)
        self.names = names


@dataclass(frozen=True)
class Fetched:
    """A model file on this machine, its other parts beside it.

    `revision` is the commit, `file` the name in the repository, `sha256` what the hub promises of a whole model.
    `promised` are the hashes of files for which that cannot stand: parts, and small ones that have git's SHA-1.
    `licences` are the repository's licence files, by name.
    """

    path: Path
    repository: str
    revision: str
    file: str
    sha256: str | None
    promised: Mapping[Path, str]
    licences: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A file of a commit: on this machine, or still on the hub; `digest` is what the hub promises, if it is known."""

    reference: Reference
    revision: str
    path: Path | None = None
    digest: str | None = None
    remote: Remote | None = None


def fetch(reference: Reference, output: Output, sha256: str | None = None, demanded: str | None = None) -> Fetched:
    """The file, downloaded unless this machine has it, with all its parts if it is split, and its licence.

    `sha256`, where it is known, lets a copy of another program be used while the hub cannot be asked. `demanded` is
    what the file must have, whatever the hub promises.
    Raises ModelNotFound, HubFailure, WrongHash, NoSpace or PermissionFailure.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it warns of is said here
    file = reference.file or _meant(reference, output)
    whole = PurePosixPath(file)
    if demanded:
        check_whole(reference.text, whole.name)
    parts = part_names(whole.name)
    known = (demanded or sha256) if len(parts) == 1 else None
    found: list[Found] = []
    revision = reference.revision
    for part in parts:
        name = str(whole.with_name(part))
        found.append(find(Reference(reference.repository, name, revision), output, known))
        revision = found[-1].reference.revision
    if demanded:
        _expect(demanded, found[0])
    wanted = [part.remote for part in found if part.remote]
    if wanted:
        check_space(wanted, hub_cache.folder(reference.repository) / "blobs", hub_cache.ELSEWHERE)
    paths = {part.reference.file or "": get_file(part, output) for part in found}
    if len(parts) > 1:
        paths = together(f"{reference.repository}@{revision}", paths)
    promised = {paths[part.reference.file or ""]: part.digest for part in found if part.digest}
    alone = len(found) == 1 and len(promised.get(paths[file], "")) == 64
    digest = promised.pop(paths[file]) if alone else demanded
    kept = licences_of(Reference(reference.repository, None, revision), output)
    return Fetched(paths[file], reference.repository, revision, file, digest, promised, kept)


def names(pinned: Reference) -> list[str]:
    """The files of a commit, which is remembered to have no projector if it has none. Raises HubFailure or Passing."""
    sign = replace(pinned, file=WORD + SUFFIX)
    if hub_cache.is_known_missing(sign):
        return []
    found = ask(pinned, lambda: list_files(pinned))
    if best(found) is None:
        hub_cache.note_missing(sign)
    return found


def fetch_beside(pinned: Reference, output: Output) -> tuple[Path, str | None]:
    """A file that accompanies a model, and what the hub promises of it. Raises as `fetch` does."""
    found = find(pinned, output, None)
    if found.remote:
        check_space([found.remote], hub_cache.folder(pinned.repository) / "blobs", hub_cache.ELSEWHERE)
    return get_file(found, output), found.digest


def _expect(demanded: str, found: Found) -> None:
    """Raise WrongHash, before anything is downloaded, when the hub promises another hash."""
    if found.digest and len(found.digest) == len(demanded) and found.digest != demanded:
        raise WrongHash(
            f"{found.reference.text!r} has the hash {found.digest} on the hub, and {demanded} is demanded behind its "
            "address: check both"
        )


def fitting(reference: Reference, room: int, output: Output) -> tuple[Quantization | None, list[Quantization]]:
    """The largest quantization of a model that has at most `room` bytes, and all that there are.

    A reference that names a repository alone has to be one of a single model. Raises ModelNotFound or HubFailure.
    """
    try:
        sizes = attempt(lambda: ask(reference, lambda: model_sizes(reference)), output)
    except Offline:
        raise Offline(
            f"--fit-one-file asks the hub for the quantizations of {reference.text!r}, which HF_HUB_OFFLINE or "
            "--offline forbids: leave that away, or name the file without --fit-one-file"
        ) from None
    found = quantizations(sizes)
    file = reference.file
    if reference.quantization or (not file and len(models(found)) != 1):
        file = _meant(reference, output)  # which says what is wrong
    if file:
        whole = PurePosixPath(file)
        first = str(whole.with_name(part_names(whole.name)[0]))
        found = of_same_model(first, found)
    return next((item for item in found if item.size <= room), None), found


def _meant(reference: Reference, output: Output) -> str:
    """The file meant by a reference that names a repository, and perhaps a quantization. Raises ModelNotFound."""
    names = _listing(reference, output)
    files = quant.models(names)
    if not files and is_checkpoint(names) and reference.quantization:
        repository = replace(reference, quantization=None)
        raise NoGguf(
            f"{reference.text!r} has no GGUF files, but a model that is converted: name {repository.text!r} and give "
            f"--quant {reference.quantization.upper()}",
            names,
        )
    if not files:
        raise NoGguf(f"{reference.text!r} has no GGUF files: name another repository", names)
    wanted = reference.quantization
    if not wanted:
        if len(files) == 1:
            return files[0]
        raise ModelNotFound(f"{reference.text!r} has {len(files)} GGUF files: name one ({_some(files)})")
    named = {name: quant.quantization(name) for name in files}
    chosen = quant.choose(wanted, [name for name in named.values() if name])
    matching = [name for name, kind in named.items() if kind and kind in (chosen, quant.normal(wanted))]
    if not matching:
        held = _some(list(dict.fromkeys(kind for kind in named.values() if kind)) or files)
        raise ModelNotFound(f"{reference.text!r}: that repository has no file of this quantization; it has {held}")
    if len(matching) > 1:
        raise ModelNotFound(f"{reference.text!r} may be any of {len(matching)} files: name one ({_some(matching)})")
    return matching[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")


def _listing(reference: Reference, output: Output) -> list[str]:
    """The names of the repository's files; of those in the cache, when the hub cannot be asked."""
    try:
        return attempt(lambda: ask(reference, lambda: list_files(reference)), output)
    except HubFailure as error:
        known = hub_cache.files(reference.repository, reference.revision)
        if not quant.models(known) and not is_checkpoint(known):
            if isinstance(error, Offline):
                raise Offline(offline(reference)) from None
            raise
        output.note(f"using what was downloaded of {reference.text!r} before: {_why(error)}")
        return known


def find(reference: Reference, output: Output, sha256: str | None) -> Found:
    """Where one file is."""
    if len(reference.revision) == COMMIT_DIGITS and (known := hub_cache.cached(reference)):
        return _kept(reference, known)
    try:
        remote, commit = attempt(lambda: ask(reference, lambda: _look_up(reference)), output)
    except HubFailure as error:
        return _older(reference, error, output, sha256)
    pinned = replace(reference, revision=commit)
    if known := hub_cache.cached(pinned):
        return _kept(pinned, known)
    if copy := copy_of(remote.name, remote.size, remote.digest, output):
        return Found(pinned, reference.revision, copy, remote.digest)
    return Found(pinned, reference.revision, None, remote.digest, remote)


def _kept(reference: Reference, path: Path) -> Found:
    """A file of the cache, which names its blobs by their hash."""
    digest = path.resolve().name
    commit = hub_cache.commit(path, reference.file or "")
    pinned = replace(reference, revision=commit)
    return Found(pinned, reference.revision, path, digest if DIGEST.fullmatch(digest) else None)


def get_file(found: Found, output: Output) -> Path:
    remote = found.remote
    if found.path or not remote:
        assert found.path
        return found.path

    def make(blob: Path) -> None:
        download(remote, blob, output, hub_cache.ELSEWHERE)

    return hub_cache.add(found.reference, remote.digest, found.revision, make)


def licences_of(pinned: Reference, output: Output) -> dict[str, Path]:
    """The repository's licence files of that commit, fetched unless they are here; none when nobody can be asked."""
    folder = hub_cache.folder(pinned.repository) / "snapshots" / pinned.revision
    known = licences.beside(folder)
    sign = replace(pinned, file=licences.FIRST)
    if known or hub_cache.is_known_missing(sign) or len(pinned.revision) != COMMIT_DIGITS:
        return known
    try:
        names = licences.names(ask(pinned, lambda: list_files(pinned)))
        for name in names:
            found = find(replace(pinned, file=name), output, None)
            if not found.remote or found.remote.size <= licences.LARGEST:
                get_file(found, output)
    except (BuilderFailure, Passing) as error:
        if not isinstance(error, Offline):
            output.note(f"note: the licence file of {pinned.repository!r} could not be looked for: {error}")
        return known
    if licences.FIRST not in names:
        hub_cache.note_missing(sign)
    return licences.beside(folder)


def _look_up(reference: Reference) -> tuple[Remote, str]:
    """What the hub says of a file, and the commit that the revision stands for."""
    metadata = get_hf_file_metadata(_url(reference), timeout=TIMEOUT)
    commit, digest, length = metadata.commit_hash, metadata.etag, metadata.size
    if not commit or not digest or length is None:
        raise HubFailure(f"what answers at {constants.ENDPOINT} is no model hub: check HF_ENDPOINT and the proxy")
    pinned = replace(reference, revision=commit)
    name = PurePosixPath(reference.file or "").name
    return Remote(name, length, digest, lambda start, end=None: _stream(pinned, start, end)), commit


@contextlib.contextmanager
def _stream(reference: Reference, start: int, end: int | None) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The file from `start` to `end`; or from its beginning, if the server does not do parts."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    with contextlib.ExitStack() as stack:
        response = ask(reference, lambda: stack.enter_context(_get(_url(reference), headers)))
        ask(reference, lambda: hf_raise_for_status(response))
        yield (start if response.status_code == 206 else 0), _chunks(response.iter_bytes())


def _get(url: str, headers: dict[str, str]) -> Any:
    return get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT)


def _chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What comes until the end, or until the connection is cut: whoever counts the bytes sees that some are missing."""
    with contextlib.suppress(TRANSPORT):
        yield from chunks


def _older(reference: Reference, error: HubFailure, output: Output, sha256: str | None) -> Found:
    """What this machine has under this name, now that the hub does not answer."""
    if known := hub_cache.cached(reference):
        output.note(f"using the copy of {reference.text!r} that was downloaded before: {_why(error)}")
        return _kept(reference, known)
    name = PurePosixPath(reference.file or "").name
    if sha256 and (copy := copy_of(name, None, sha256, output)):
        return Found(reference, reference.revision, copy, sha256)
    if isinstance(error, Offline):
        raise Offline(offline(reference)) from None
    raise error


def _why(error: HubFailure) -> str:
    return "HF_HUB_OFFLINE is set" if isinstance(error, Offline) else str(error)


def offline(reference: Reference) -> str:
    """What to do about a model that is not on this machine while the network must not be used."""
    place = hub_cache.folder(reference.repository)
    return (
        f"{reference.text!r} was not downloaded before, and HF_HUB_OFFLINE or --offline forbids asking the hub: leave "
        f"that away, or `mkllm pull` it where there is a network and copy the folder {place.name!r} of the cache there "
        f"to {str(place.parent)!r}"
    )


def _url(reference: Reference) -> str:
    return hf_hub_url(reference.repository, reference.file or "", revision=reference.revision)
