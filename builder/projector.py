"""The projector that goes into an artifact: named, found by itself, or none; looked at by the kit's own engine."""

import json
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkllm.builder import process
from mkllm.builder.errors import BuilderFailure, UnusableModel, UnusableProjector
from mkllm.builder.kit.kit import Kit, engine_environment
from mkllm.builder.model import promise
from mkllm.builder.model.gguf import Gguf, read_gguf
from mkllm.builder.model.projectors import ARCHITECTURE, Companion
from mkllm.builder.model.reference import Source
from mkllm.builder.progress import Output, size
from mkllm.runtime.artifact.manifest import Projector

NONE = "none"
KIND = "mmproj"
VISION, AUDIO = "clip.has_vision_encoder", "clip.has_audio_encoder"
SECONDS = 60
FUNCTIONS = re.compile(r"^(\w+: )?(failed to load model '.*?': )?(\w+: )?")
BUFFERS = 1 / 4  # of the weights, about, where nobody is asked


class _Unasked(Exception):
    """There is no engine of the kit's that runs here."""


def with_projector(source: Source, wanted: Path | None, kit: Kit, output: Output) -> Source:
    """The model with `wanted` as its projector, or the one that was found by itself, looked at; `kit` is asked.

    Raises UnusableProjector for one that was named, or what reading one does; what was found by itself and does not fit
    is left out with a note.
    """
    found = Companion(wanted, str(wanted), wanted.name, by_itself=False) if wanted else source.projector
    if not found:
        return source
    try:
        promise.check(found.promised, output)
        facts = _facts(found, source, kit)
    except UnusableProjector as failure:
        if not found.by_itself:
            raise
        output.note(f"warning: without pictures and sound: {failure}")
        return replace(source, projector=None)
    if found.by_itself:
        what = " and ".join(word for word, is_so in (("pictures", facts.vision), ("sound", facts.audio)) if is_so)
        count = size(found.path.stat().st_size)
        output.note(f"note: it takes {what}, by {found.told!r} ({count}); --mmproj {NONE} leaves that out")
    return replace(source, projector=replace(found, facts=facts))


def _facts(found: Companion, source: Source, kit: Kit) -> Projector:
    try:
        header = read_gguf(found.path)
    except UnusableModel as failure:
        raise UnusableProjector(f"{failure}; --mmproj {NONE} leaves it out") from None
    _expect_projector(header, found)
    wide = width(read_gguf(source.path))
    try:
        told = _asked(kit, found)
        made, memory, kinds = told["width"], told["bytes"], (told["vision"], told["audio"])
    except _Unasked:
        made, (memory, kinds) = 0, _estimated(header)
    if wide and made and made != wide:
        raise UnusableProjector(
            f"{found.told!r} makes {made} numbers of each position, {source.name!r} takes {wide}: it is another "
            "model's, take the one that comes with this model"
        )
    return Projector(found.file, *kinds, memory)


def _expect_projector(header: Gguf, found: Companion) -> None:
    kind = header.text("general.type")
    if header.text("general.architecture") != ARCHITECTURE or kind not in (None, KIND) or not header.tensors:
        raise UnusableProjector(
            f"{found.told!r} is no projector: name a GGUF file that is called mmproj where the model is from"
        )


def width(header: Gguf) -> int:
    """How many numbers the model takes for each position; 0: it does not say."""
    name = header.text("general.architecture")
    mapped = {layer for layer in header.integers(f"{name}.deepstack_mapping") if layer >= 0}
    layers = header.integer(f"{name}.n_deepstack_layers") or len(mapped)
    return (header.integer(f"{name}.embedding_length") or 0) * (1 + layers)


def _asked(kit: Kit, found: Companion) -> dict[str, Any]:
    """What the kit's engine says of it. Raises _Unasked, or UnusableProjector when it cannot use it."""
    if not kit.runs_here:
        raise _Unasked
    try:
        with process.background([kit.engine, "projector", found.path.absolute()], engine_environment(kit)) as child:
            output, errors = child.communicate(timeout=SECONDS)
    except OSError:
        raise _Unasked from None
    except subprocess.TimeoutExpired:
        raise _refused(found, f"it was still reading after {SECONDS} s") from None
    if child.returncode:
        raise _refused(found, _why(child.returncode, errors))
    told: dict[str, Any] = json.loads(output)
    return told


def _why(status: int, errors: str) -> str:
    """The first of its messages, without the names of functions."""
    if status < 0:
        return f"it dies of {signal.Signals(-status).name}"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return FUNCTIONS.sub("", lines[0]) if lines else "it gives no reason"


def _refused(found: Companion, why: str) -> BuilderFailure:
    return UnusableProjector(f"the engine cannot use {found.told!r} ({why}): get another version of this projector")


def _estimated(header: Gguf) -> tuple[int, tuple[bool, bool]]:
    """What its header says: the memory it takes, and what it is for. How wide what it makes is, none says for sure."""
    weights = sum(tensor.size for tensor in header.tensors)
    return weights + int(weights * BUFFERS), (_is_said(header, VISION), _is_said(header, AUDIO))


def _is_said(header: Gguf, key: str) -> bool:
    found = header.keys.get(key)
    return bool(found and found.value)
