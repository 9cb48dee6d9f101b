"""The importance matrix to quantize with: a ready one, or that of a text, computed once and kept in the cache."""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import ModelNotFound, UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.gguf import MAGIC
from mkllm.builder.model.reference import Source
from mkllm.builder.progress import Output
from mkllm.builder.quant import imatrix
from mkllm.builder.quant.child import ask, only
from mkllm.builder.quant.digest import sha256_of
from mkllm.builder.text import read_text
from mkllm.runtime.artifact.draft import draft

CHUNK = 512  # tokens, llama-imatrix's own
FORMAT = 1  # of what is kept


@dataclass(frozen=True)
class Matrix:
    """A file that `imatrix.read` reads; `digest` is for what it was made of."""

    path: Path
    digest: str


def matrix(kit: Kit, source: Source, path: Path, output: Output) -> Matrix:
    """The matrix that the file gives: itself, or, if it is a text, what the model makes of it.

    Raises ModelNotFound, UnusableModel, or what `ask` raises.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "?").lower()
        raise ModelNotFound(f"{str(path)!r} cannot be read ({reason}): name a text or an importance matrix") from None
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(MAGIC) or b"\0" in data:
        imatrix.read(path)
        return Matrix(path.absolute(), digest)
    read_text(path)
    return Matrix(_computed(kit, source, path, len(data), digest, output), digest)


def _computed(kit: Kit, source: Source, path: Path, length: int, digest: str, output: Output) -> Path:
    key = [sha256_of(source.weights, f"reading {source.name}", output), digest, kit.versions["llama_cpp"], FORMAT]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    place = cache.folder("imatrix") / f"{name}.gguf"
    what = f"the importance matrix of {str(path)!r} cannot be computed"
    with cache.locked(place.with_suffix(".lock")):
        if not place.exists():
            _expect_length(kit, source, path, what)
            with draft(place) as new:
                _compute(kit, source, path, length, new.path, what, output)
                new.commit(0o644, force=True)
    return place


def _compute(kit: Kit, source: Source, path: Path, length: int, target: Path, what: str, output: Output) -> None:
    names = {"model": source.path.absolute(), "text": path.absolute(), "target": target, "dataset": path.name}
    done = 0
    with (
        output.task(f"importance matrix of {path.name}", length) as advance,
        contextlib.closing(ask(kit, "imatrix", what, chunk=CHUNK, **names)) as answers,
    ):
        for answer in answers:
            now = length * answer["chunk"] // answer["chunks"]
            advance(now - done)
            done = now


def _expect_length(kit: Kit, source: Source, path: Path, what: str) -> None:
    """A few numbers say nothing of what is important."""
    tokens = only(ask(kit, "count", what, model=source.path.absolute(), text=path.absolute()))["tokens"]
    if tokens < CHUNK:
        raise UnusableModel(
            f"the text {str(path)!r} has {tokens} tokens, and an importance matrix takes {CHUNK} at least, better "
            "100000: give a longer text such as the model will see"
        )
