"""Turns what huggingface_hub raises into sentences; asks the hub for names that are near a wrong one."""

import difflib
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from huggingface_hub import HfApi, RepoFile, constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mkllm.builder.errors import BuilderFailure, HubFailure, ModelNotFound
from mkllm.builder.model.hub_reference import Reference
from mkllm.builder.model.passing import Passing
from mkllm.builder.model.quant import models

# httpx's base class, under whichever name this version of huggingface_hub uses
TRANSPORT: type[Exception] = next(base for base in HfHubHTTPError.__bases__ if base is not OSError)
# What the same library, and Python, say of an address that is none; it has no base in common with the others.
NO_ADDRESS: tuple[type[Exception], ...] = (vars(sys.modules[TRANSPORT.__module__])["InvalidURL"], UnicodeError)
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
LISTED = 3
REPOSITORIES = 1000  # of one organisation to look for a similar name in

T = TypeVar("T")


class Offline(HubFailure):
    """The hub is needed, and HF_HUB_OFFLINE is set."""


def ask(reference: Reference, question: Callable[[], T]) -> T:
    """The answer of the hub. Raises Passing, Offline, or a BuilderFailure about `reference`."""
    try:
        return question()
    except OfflineModeIsEnabled:
        raise Offline(f"{reference.text!r} cannot be asked for, as HF_HUB_OFFLINE or --offline forbids it") from None
    except HFValidationError:
        raise ModelNotFound(f"{reference.repository!r} cannot be the name of a repository: check it") from None
    except HfHubHTTPError as error:
        raise _translate(error, reference) from None
    except TRANSPORT as error:
        reason = str(error) or type(error).__name__
        raise Passing(f"the hub at {constants.ENDPOINT} could not be reached ({reason})") from None


def _translate(error: HfHubHTTPError, reference: Reference) -> Exception:
    repository = reference.repository
    if isinstance(error, GatedRepoError):
        return _gated(repository)
    if isinstance(error, RepositoryNotFoundError):
        near = _near(repository, _names(_list_repositories, reference))
        meant = f"{near} Else " if near else ""
        check = f"check its name on {constants.ENDPOINT}/models, or {LOG_IN}"
        return ModelNotFound(f"there is no repository {repository!r} on the hub, or it is private: {meant}{check}")
    if isinstance(error, RevisionNotFoundError):
        near = _near(reference.revision, _names(_list_revisions, reference))
        return ModelNotFound(f"{repository!r} has no revision {reference.revision!r}: {near or 'check the name'}")
    if isinstance(error, EntryNotFoundError):
        near = _near(reference.file or "", _names(_list_models, reference))
        return ModelNotFound(f"{repository!r} has no file {reference.file!r}: {near or 'check the name'}")
    return _by_status(error.response.status_code, repository)


def _by_status(status: int, repository: str) -> Exception:
    if status in PASSING_STATUS:
        return Passing(f"the hub at {constants.ENDPOINT} answered {status}")
    if status == 401:
        return HubFailure(f"the hub refused the token of this machine for {repository!r}: {LOG_IN}")
    if status == 403:
        return HubFailure(f"the hub refused access to {repository!r} (403): ask its owners for access, and {LOG_IN}")
    return HubFailure(
        f"the hub at {constants.ENDPOINT} answered {status} for {repository!r}: check HF_ENDPOINT and the name"
    )


def _gated(repository: str) -> BuilderFailure:
    page = f"{constants.ENDPOINT}/{repository}"
    if get_token():
        return HubFailure(
            f"{repository!r} is gated, and the token of this machine has no access: accept its terms on {page}"
        )
    return HubFailure(f"{repository!r} is gated: accept its terms on {page}, then {LOG_IN}")


def list_files(reference: Reference) -> list[str]:
    """Names of all files of a repository."""
    return HfApi().list_repo_files(reference.repository, revision=reference.revision)


def model_sizes(reference: Reference) -> dict[str, int]:
    """The GGUF files of a repository, with their sizes in bytes."""
    tree = HfApi().list_repo_tree(reference.repository, recursive=True, revision=reference.revision)
    return {item.path: item.size for item in tree if isinstance(item, RepoFile) and item.path.lower().endswith(".gguf")}


def _list_models(reference: Reference) -> list[str]:
    return models(list_files(reference))


def _list_repositories(reference: Reference) -> list[str]:
    """GGUF repositories of the same organisation."""
    owner = reference.repository.partition("/")[0]
    return [found.id for found in HfApi().list_models(author=owner, filter="gguf", limit=REPOSITORIES)]


def _list_revisions(reference: Reference) -> list[str]:
    refs = HfApi().list_repo_refs(reference.repository)
    return [ref.name for ref in [*refs.branches, *refs.tags]]


def _names(listing: Callable[[Reference], list[str]], reference: Reference) -> list[str]:
    """What could have been meant; nothing if the hub does not tell, as this only helps another sentence."""
    try:
        return listing(reference)
    except (HfHubHTTPError, TRANSPORT):
        return []


def _near(name: str, known: Sequence[str]) -> str:
    """`did you mean …?` with the names nearest to a wrong one."""
    near = difflib.get_close_matches(name, known, LISTED, 0.4) or known[:LISTED]
    return f"did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
