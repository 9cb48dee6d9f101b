"""What was written is read once more before it appears; writes nothing."""

import os
from pathlib import Path

from mkllm.builder.errors import BuilderFailure
from mkllm.builder.model.divide import Part
from mkllm.builder.model.weights import Weights
from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import SIGNATURE, verify
from mkllm.runtime.errors import RuntimeFailure

SAMPLES = 64
SAMPLE_SIZE = 64 << 10


def read_back(path: Path, weights: Weights | None) -> None:
    """Open what was written as the runtime will, verify all but the weights, and compare samples of those with their
    source: reading all of them once more would cost as much as the build. Raises BuilderFailure."""
    try:
        with open_artifact(path) as artifact:
            name = artifact.weights.name
            wrong = [str(difference) for difference in verify(artifact, without={name, SIGNATURE}, beside=False)]
            if weights and not artifact.manifest.prepacked:  # those were compared as a whole
                start, samples = artifact.weights.offset, _samples(0, weights.size)
                wrong += [WEIGHTS for at in samples if not _is_same(artifact.fileno(), start + at, weights, at)]
    except RuntimeFailure as error:
        wrong = [str(error)]
    if wrong:
        raise _read_differently(wrong[0])


def read_back_beside(path: Path, part: Part, descriptor: int, weights: Weights) -> None:
    """Compare samples of a file of weights, which holds that part of them. Raises BuilderFailure."""
    shift = len(part.header) - part.start
    if not all(_is_same(descriptor, at + shift, weights, at) for at in _samples(part.start, part.end)):
        raise _read_differently(path.name)


def _read_differently(what: str) -> BuilderFailure:
    return BuilderFailure(f"what was written was read back differently ({what}): check the disk and the memory")


def _samples(start: int, end: int) -> set[int]:
    last = max(0, end - start - SAMPLE_SIZE)
    return {start + last * i // (SAMPLES - 1) for i in range(SAMPLES)}


def _is_same(descriptor: int, offset: int, weights: Weights, at: int) -> bool:
    """Whether the file has from `offset` on, as far as it goes, what the model has from `at` on."""
    wanted = weights.read(at, min(SAMPLE_SIZE, weights.size - at))
    found = os.pread(descriptor, len(wanted), offset)
    return bool(found) and wanted.startswith(found)
