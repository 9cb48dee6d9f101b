"""GGUF files at a web address, `https://…/x.gguf`; kept in mkllm's cache. Those of the hub are the hub's."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from mkllm.builder import cache
from mkllm.builder.errors import HubFailure, ModelNotFound
from mkllm.builder.model.download import SUFFIX, Remote, attempt, check_space, download
from mkllm.builder.model.hub_reference import MAIN, Reference, address_parts
from mkllm.builder.model.offline import is_offline
from mkllm.builder.model.passing import Passing
from mkllm.builder.model.split import check_whole, part_names
from mkllm.builder.progress import Output
from mkllm.builder.text import is_text
from mkllm.runtime.artifact.draft import failure

PREFIXES = ("https://", "http://")
HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")
PAGE = re.compile(r"/(?P<repository>[^/]+/[^/]+)(/(resolve|blob)/(?P<revision>[^/]+)/(?P<file>.+))?/?")
PINNED = re.compile(r"sha256=([0-9a-fA-F]{64})")
FORM = "write https://host/path/model.gguf, with #sha256=… behind it if you know its hash"
ELSE = "download it yourself, and name the file"
LONGEST = 200  # bytes of a file's name, to which others are put behind
TIMEOUT = 20.0  # seconds without a byte
PASSING = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """A file from an address, its parts beside it. `told` is the address without what may be secret."""

    path: Path
    told: str
    sha256: str | None


def split(text: str) -> SplitResult:
    """The parts of an address. Raises ModelNotFound for what is none."""
    parts = address_parts(text)
    if not parts:
        raise ModelNotFound(f"{text!r} is no address: {FORM}")
    return parts


def pinned(text: str) -> str | None:
    """The SHA-256 behind an address, that of the file at it. Raises ModelNotFound when something else is there."""
    told = split(text).fragment
    found = PINNED.fullmatch(told)
    if told and not found:
        raise ModelNotFound(f"{text!r} has {told!r} behind its address, which is no hash: {FORM}")
    return found[1].lower() if found else None


def on_hub(text: str) -> Reference | None:
    """The reference that an address of huggingface.co is; None for every other address. Raises ModelNotFound."""
    parts = split(text)
    match = PAGE.fullmatch(unquote(parts.path))
    if parts.hostname not in HUBS or not match:
        return None
    return Reference(match["repository"], match["file"], match["revision"] or MAIN)


def fetch(text: str, output: Output) -> Fetched:
    """The file, downloaded unless it is here and the server's is the same. Raises ModelNotFound, HubFailure, WrongHash
    or NoSpace."""
    parts = split(text)
    name = PurePosixPath(unquote(parts.path)).name
    if not name.lower().endswith(".gguf") or "/" in name or not is_text(text) or not name.isprintable():
        raise ModelNotFound(f"{text!r} is not the address of a GGUF file: {FORM}")
    if len(os.fsencode(name)) > LONGEST:
        raise ModelNotFound(f"{text!r} names a file that is called too long to be kept: {ELSE}")
    digest = pinned(text) or ""
    if digest:
        check_whole(text, name)
    names = part_names(name)
    paths = []
    for part in names:
        path = parts.path if len(names) == 1 else str(PurePosixPath(parts.path).with_name(quote(part)))
        address = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
        paths.append(_fetch_one(address, names[0], part, digest, output))
    return Fetched(paths[names.index(name)], _plain(text), digest or None)


def _fetch_one(address: str, first: str, name: str, digest: str, output: Output) -> Path:
    key = hashlib.sha256(address.replace(quote(name), quote(first)).encode()).hexdigest()[:16]
    place = cache.folder(f"addresses/{key}") / name
    record, begun = place.with_name(f"{name}.json"), place.with_name(f"{name}.begun.json")
    if is_offline():
        if place.exists():
            return place
        raise HubFailure(
            f"{_plain(address)!r} was not downloaded before, and HF_HUB_OFFLINE or --offline forbids it: "
            "leave that away, or download it elsewhere and name the file"
        )
    told = attempt(lambda: _ask(address, lambda: _look_up(address)), output)
    if place.exists() and _recorded(record) == told:
        return place
    place.unlink(missing_ok=True)
    if _recorded(begun) != told:  # what was downloaded in part before is of another file
        place.with_name(name + SUFFIX).unlink(missing_ok=True)
    remote = Remote(name, told["size"], digest, lambda start, end=None: _stream(address, start, end))
    try:
        check_space([remote], place.parent, cache.ELSEWHERE, name)
        begun.write_text(json.dumps(told))
        download(remote, place, output, cache.ELSEWHERE)
        record.write_text(json.dumps(told))
    except OSError as error:
        raise failure(error, place) from error
    return place


def _recorded(record: Path) -> Any:
    try:
        return json.loads(record.read_text())
    except (OSError, ValueError):
        return None


def _look_up(address: str) -> dict[str, Any]:
    """What the server says of the file: its size, and what changes with it."""
    response = _session().head(address, follow_redirects=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})
    _check(address, response.status_code)
    length = response.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        raise HubFailure(f"{_plain(address)!r} does not say how long it is: {ELSE}")
    return {"size": int(length), "etag": response.headers.get("ETag"), "date": response.headers.get("Last-Modified")}


@contextlib.contextmanager
def _stream(address: str, start: int, end: int | None) -> Iterator[tuple[int, Iterator[bytes]]]:
    headers = {"Accept-Encoding": "identity"}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    with contextlib.ExitStack() as stack:
        opened = _session().stream("GET", address, headers=headers, follow_redirects=True, timeout=TIMEOUT)
        response = _ask(address, lambda: stack.enter_context(opened))
        _check(address, response.status_code)
        yield (start if response.status_code == 206 else 0), _chunks(response.iter_bytes())


def _chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    from mkllm.builder.model.hub_errors import TRANSPORT

    with contextlib.suppress(TRANSPORT):
        yield from chunks


def _session() -> Any:
    from huggingface_hub import get_session  # its settings of proxies and certificates; no token is sent

    return get_session()


def _ask(address: str, question: Callable[[], T]) -> T:
    from mkllm.builder.model.hub_errors import NO_ADDRESS, TRANSPORT

    try:
        return question()
    except NO_ADDRESS as error:
        raise ModelNotFound(f"{_plain(address)!r} is no address ({error}): {FORM}") from None
    except TRANSPORT as error:
        raise Passing(f"{_plain(address)!r} could not be reached ({error or type(error).__name__})") from None


def _check(address: str, status: int) -> None:
    if status in PASSING:
        raise Passing(f"{_plain(address)!r} answered {status}")
    if status in (404, 410):
        raise ModelNotFound(f"there is nothing at {_plain(address)!r} ({status}): check the address")
    if status >= 400:
        raise HubFailure(f"{_plain(address)!r} answered {status}: {ELSE}")


def _plain(address: str) -> str:
    """The address without its query, in which keys may be."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_address(text: str) -> bool:
    """Whether it is meant as an address."""
    return text.lower().startswith(PREFIXES)


def local_name(text: str) -> str:
    """What a file at that address is called."""
    return os.path.basename(unquote(urlsplit(text).path))
