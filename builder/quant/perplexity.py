"""How well a model predicts a text, and how far its predictions are from another model's; reckoned in the worker."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.kit.kit import Kit
from mkllm.builder.progress import Advance
from mkllm.builder.quant.child import ask

FLOAT = 4
SHARE = 0.99


@dataclass(frozen=True)
class Course:
    """What is computed: `chunks` pieces of `context` tokens of the file `text`, `length` bytes of it together; of
    each the later half counts. `vocabulary` is the number of tokens that a prediction tells of."""

    text: Path
    length: int
    context: int
    chunks: int
    vocabulary: int

    @property
    def positions(self) -> int:
        """How many predictions are counted."""
        return self.chunks * (self.context - 1 - self.context // 2)

    @property
    def predictions_size(self) -> int:
        """Bytes of the file of all predictions."""
        return self.positions * self.vocabulary * FLOAT


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Divergence:
    """KL divergence from the original, in nats: the mean, and what 99 % of the positions stay below; and how many of
    its likeliest tokens are the original's (0 to 1)."""

    mean: Estimate
    worst: float
    same_top: Estimate


def original(kit: Kit, model: Path, course: Course, logits: Path | None, advance: Advance) -> Estimate:
    """The perplexity; every prediction is kept in the file `logits`, for `compared`. Raises what `ask` raises."""
    return _perplexity(_predictions(kit, model, course, logits, False, advance)["nll"])


def compared(kit: Kit, model: Path, course: Course, logits: Path, advance: Advance) -> tuple[Estimate, Divergence]:
    """The perplexity and the divergence from the model of `logits`. Raises what `ask` raises."""
    found = _predictions(kit, model, course, logits, True, advance)
    worst = sorted(found["kld"])[int(SHARE * (len(found["kld"]) - 1))]
    return _perplexity(found["nll"]), Divergence(estimate(found["kld"]), worst, estimate(found["same"]))


def _predictions(
    kit: Kit, model: Path, course: Course, logits: Path | None, compare: bool, advance: Advance
) -> dict[str, list[float]]:
    request: dict[str, Any] = {"model": model.absolute(), "text": course.text.absolute(), "logits": logits}
    request |= {"context": course.context, "chunks": course.chunks, "vocabulary": course.vocabulary}
    what = f"the perplexity of {str(model)!r} cannot be computed"
    found: dict[str, list[float]] = {"nll": [], "kld": [], "same": []}
    done = 0
    with contextlib.closing(ask(kit, "predict", what, compare=compare, **request)) as answers:
        for answer in answers:
            for name, values in found.items():
                values.extend(answer[name])
            now = course.length * answer["chunk"] // course.chunks
            advance(now - done)
            done = now
    return found


def _perplexity(values: Sequence[float]) -> Estimate:
    mean = estimate(values)
    perplexity = math.exp(min(mean.value, 700.0))
    return Estimate(perplexity, perplexity * mean.error)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its standard error."""
    count = len(values)
    mean = math.fsum(values) / count
    spread = math.fsum((value - mean) ** 2 for value in values)
    return Estimate(mean, math.sqrt(spread / max(1, count - 1) / count))
