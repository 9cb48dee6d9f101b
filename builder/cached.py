"""Artifacts that `mkllm run` made: one for each model, kept under everything that it was made of."""

import hashlib
import json
import os
import re
from pathlib import Path

from mkllm.builder import cache, chat_template
from mkllm.builder.build import Request, make
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.builder.kit.target import default
from mkllm.builder.model.reference import Source, resolve
from mkllm.builder.progress import Output
from mkllm.builder.projector import with_projector
from mkllm.builder.version import version
from mkllm.runtime.artifact.manifest import Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.errors import NotAnArtifact

KEY_DIGITS = 16


def cached_artifact(model: str, output: Output) -> Path:
    """The path of an artifact of that model in the cache, built now unless it is there. Raises a BuilderFailure."""
    kit = find_kit(default().name)
    kit.verify()
    source = with_projector(resolve(model, output, projector=True), None, kit, output)
    template = chat_template.chosen(None, None, source, output)
    place = cache.folder("artifacts") / f"{_prefix(source)}{_key(source, template, kit)}"
    if not _is_whole(place):
        make(
            place, kit, source, Request(model, place, None, None, Defaults(chat_template=template), force=True), output
        )
        _remove_older(place, _prefix(source))
    return place


def _prefix(source: Source) -> str:
    """Names the model, and where it is from, so that a changed one replaces what was built of it before."""
    where = json.dumps([str(source.path.absolute()), source.origin.reference])
    name = re.sub(r"[^\w.-]", "_", source.name)[:100]
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}-"


def _key(source: Source, template: str | None, kit: Kit) -> str:
    files = [*sorted(source.weights.files), *([source.projector.path] if source.projector else [])]
    stamps = [[str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in files]
    text = json.dumps([stamps, source.origin.revision, template, kit.id, version()])
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def _is_whole(place: Path) -> bool:
    if not place.exists():
        return False
    try:
        open_artifact(place).close()
    except NotAnArtifact:
        return False
    return True


def _remove_older(place: Path, prefix: str) -> None:
    for path in place.parent.iterdir():
        if path.name.startswith(prefix) and path != place:
            path.unlink(missing_ok=True)
