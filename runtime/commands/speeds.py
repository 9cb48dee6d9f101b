"""What `bench` measured, as one value, and as rows and objects for programs; measures nothing."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.engine.race import Course, Result
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import Settings

CACHED = 4  # weights of less than so many L3 caches are read from there in part
COLUMNS = (
    *("kernel", "weights", "chosen", "threads", "threads_batch", "flash_attention", "batch"),
    *("prompt_tokens", "tokens", "depth", "rounds"),
    *(f"{what}_{part}" for what in ("prompt", "generation", "load_seconds") for part in ("median", "min", "max")),
    *("bandwidth_share", "busy", "failure"),
)


@dataclass(frozen=True)
class Spread:
    """Of several samples."""

    median: float
    min: float
    max: float
    count: int


def spread(samples: Sequence[float]) -> Spread | None:
    """None of no samples; between the two in the middle of an even number."""
    if not samples:
        return None
    ordered = sorted(samples)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return Spread(median, ordered[0], ordered[-1], len(ordered))


@dataclass(frozen=True)
class Speeds:
    """All of one bench.

    `bandwidth` is in bytes a second, `buffer` the megabytes that it was measured with; `others` are the processors that
    other programs used meanwhile, `busy` if that is much. `notes` are sentences.
    """

    manifest: Manifest
    facts: Facts
    course: Course
    chosen: Settings
    results: tuple[Result, ...]
    bandwidth: Spread | None
    buffer: int
    others: float
    busy: bool
    notes: tuple[str, ...] = ()

    def is_chosen(self, result: Result) -> bool:
        """Whether a launch here runs like this."""
        return result.runner.settings == self.chosen

    def share(self, result: Result) -> float | None:
        """Of the memory's bandwidth, what generating reached; None where that means nothing."""
        generation = spread(result.generations)
        if generation is None or self.bandwidth is None or self.why_no_share():
            return None
        return generation.median * self.manifest.model.token_weights / self.bandwidth.median

    def why_no_share(self) -> str | None:
        """Why nothing can be said about that, if so."""
        read, cache = self.manifest.model.token_weights, self.facts.caches.get("L3", 0)
        if self.bandwidth is None:
            return "the memory could not be measured"
        if not read:
            return "the model does not say which of its weights a token needs"
        return "the weights are not much larger than the L3 cache" if read < CACHED * cache else None


def as_object(speeds: Speeds) -> dict[str, object]:
    """For programs: speeds in tokens a second, times in seconds, sizes in bytes."""
    manifest = speeds.manifest
    return {
        "model": manifest.name,
        "quantization": manifest.model.quantization,
        "parameters": manifest.model.parameters,
        "token_weights": manifest.model.token_weights or None,
        "kit": dataclasses.asdict(manifest.kit),
        "machine": speeds.facts.as_object(),
        "course": dataclasses.asdict(speeds.course),
        "chosen": dataclasses.asdict(speeds.chosen),
        "results": [_result(speeds, result) for result in speeds.results],
        "memory": {
            "bytes_per_second": _spread(speeds.bandwidth),
            "buffer": speeds.buffer << 20,
            "no_share": speeds.why_no_share(),
        },
        "busy": speeds.busy,
        "others": speeds.others,
        "notes": list(speeds.notes),
    }


def _result(speeds: Speeds, result: Result) -> dict[str, object]:
    return {
        **dataclasses.asdict(result.runner.settings),
        "chosen": speeds.is_chosen(result),
        "prompt": _spread(spread(result.prompts)),
        "generation": _spread(spread(result.generations)),
        "load_seconds": _spread(spread(result.loads)),
        "bandwidth_share": speeds.share(result),
        "failure": result.failure,
    }


def _spread(found: Spread | None) -> dict[str, float] | None:
    return dataclasses.asdict(found) if found else None


def as_csv(speeds: Speeds) -> str:
    """A line for each result, after one that names the columns (RFC 4180, with plain line ends)."""
    rows = [COLUMNS, *(tuple(_cells(speeds, result)) for result in speeds.results)]
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows)


def _cells(speeds: Speeds, result: Result) -> Iterator[str]:
    settings, course = result.runner.settings, speeds.course
    yield from (settings.kernel, settings.layout, _flag(speeds.is_chosen(result)))
    yield from (str(settings.threads), str(settings.threads_batch), _flag(settings.flash is not False))
    yield from map(str, (settings.batch or course.batch, course.prompt, course.tokens, course.depth, course.rounds))
    for samples in (result.prompts, result.generations, result.loads):
        found = spread(samples)
        yield from (f"{value:.6g}" for value in (found.median, found.min, found.max)) if found else ("", "", "")
    share = speeds.share(result)
    yield from ("" if share is None else f"{share:.4g}", _flag(speeds.busy), result.failure or "")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text
