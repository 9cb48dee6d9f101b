"""A checkpoint as GGUF: converted once, and kept in the cache under its content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.convert import limits, recognise
from mkllm.builder.convert.checkpoint import Checkpoint
from mkllm.builder.convert.converter import convert
from mkllm.builder.convert.environment import environment, key
from mkllm.builder.convert.staging import staged
from mkllm.builder.model import promise
from mkllm.builder.model.weights import Span, Stamp, Weights
from mkllm.builder.progress import Output
from mkllm.builder.quant.digest import sha256_of
from mkllm.builder.space import check_free

SCRIPT = "convert_hf_to_gguf.py"
KEY_DIGITS = 32


def converted(source: Checkpoint, promised: Mapping[Path, str], output: Output) -> Path:
    """The GGUF file in the cache, made now unless it is there: in 32 bits if the weights are, else in their 16.

    `promised` are hashes that files must have. Raises a BuilderFailure.
    """
    if source.window:
        output.note(limits.of_window(source.told, source.window))
    kind = "f32" if source.single else "auto"
    place = cache.folder("converted") / f"{checkpoint_key(source, promised, kind, output)}.gguf"
    with cache.locked(place.with_suffix(".lock")):
        if not place.exists():
            promise.check(promised, output)
            with staged(source.files, source.name) as folder:
                made = environment(output)
                what = f"{source.told!r} as GGUF in {str(place.parent)!r}"
                check_free(place.parent, source.size, what, cache.ELSEWHERE)
                convert(made, SCRIPT, [folder, "--outtype", kind], source.told, source.size, place, output)
    return place


def checkpoint_key(source: Checkpoint, promised: Mapping[Path, str], kind: str, output: Output) -> str:
    """Everything that decides the bytes."""
    digests = {name: promised.get(path) or digest(path, output) for name, path in sorted(source.files.items())}
    files = (recognise.__file__, recognise.TABLE, limits.TABLE)
    ours = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    text = json.dumps([digests, source.name, kind, key(), ours])
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def digest(path: Path, output: Output) -> str:
    """The SHA-256 of a file, read once for each state of it."""
    stamp = Stamp.of(path.stat())
    return sha256_of(Weights((Span(path, 0, stamp.size, stamp),)), f"reading {path.name}", output)
