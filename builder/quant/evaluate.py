"""What each version of a model costs in quality: perplexity and KL divergence against the original, on a text."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import Source
from mkllm.builder.progress import Output
from mkllm.builder.quant import perplexity
from mkllm.builder.quant.child import ask, only
from mkllm.builder.quant.perplexity import Course, Divergence, Estimate
from mkllm.builder.space import check_free
from mkllm.builder.text import read_text


@dataclass(frozen=True)
class Quality:
    """One version: `size` in bytes of its file; `divergence` None for the original."""

    name: str
    type: str
    size: int
    parameters: int
    perplexity: Estimate
    divergence: Divergence | None

    @property
    def bits(self) -> float:
        """Bits per weight, of the whole file."""
        return 8 * self.size / self.parameters


@dataclass(frozen=True)
class Evaluation:
    """All versions, the original first, and what was computed."""

    course: Course
    qualities: tuple[Quality, ...]


def course(kit: Kit, source: Source, text: Path, context: int, chunks: int | None) -> Course:
    """What is to be computed. Raises UnusableModel for too short a text."""
    length = len(read_text(text).encode())
    what = f"the text {str(text)!r} cannot be read by {source.name!r}"
    counted = only(ask(kit, "count", what, model=source.path.absolute(), text=text.absolute()))
    tokens = counted["tokens"]
    if tokens < 2 * context:
        raise UnusableModel(
            f"the text {str(text)!r} has {tokens} tokens, and {2 * context} are needed for a context of {context}: "
            "give a longer text, or a smaller --ctx-size"
        )
    found = min(tokens // context, chunks or tokens)
    return Course(text, length * found * context // tokens, context, found, counted["vocabulary"])


def evaluate(kit: Kit, source: Source, versions: Sequence[Source], course: Course, output: Output) -> Evaluation:
    """Compute all; the predictions of the original are kept on the disk meanwhile. Raises a BuilderFailure."""
    folder = cache.folder("work")
    if versions:
        what = f"the original's predictions in {str(folder)!r}"
        check_free(folder, course.predictions_size, what, f"give fewer --chunks, or {cache.ELSEWHERE}")
    with tempfile.TemporaryDirectory(dir=folder, prefix="eval-") as place:
        logits = Path(place) / "logits"
        return Evaluation(course, tuple(_qualities(kit, source, versions, course, logits, output)))


def _qualities(
    kit: Kit, source: Source, versions: Sequence[Source], course: Course, logits: Path, output: Output
) -> Iterator[Quality]:
    with output.task(f"{source.name} reading {course.text.name}", course.length) as advance:
        yield _quality(
            source, perplexity.original(kit, source.path, course, logits if versions else None, advance), None
        )
    for version in versions:
        with output.task(f"{version.name} reading {course.text.name}", course.length) as advance:
            yield _quality(version, *perplexity.compared(kit, version.path, course, logits, advance))


def _quality(source: Source, found: Estimate, divergence: Divergence | None) -> Quality:
    model = source.model
    return Quality(source.name, model.quantization, source.weights.size, model.parameters, found, divergence)
