"""`bench`: how fast the whole model reads and generates here, with the chosen settings or with all kernels."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.draft import Draft, draft
from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.commands.bench_table import lines
from mkllm.runtime.commands.chart import chart
from mkllm.runtime.commands.paragraphs import terminal_width
from mkllm.runtime.commands.speeds import Speeds, as_csv, as_object, spread
from mkllm.runtime.commands.tuning import settings_of, tuning_of
from mkllm.runtime.engine.arguments import EngineOptions, WrongArgument
from mkllm.runtime.engine.measure import Laboratory
from mkllm.runtime.engine.race import Course, Race, Result, Runner, bandwidth
from mkllm.runtime.errors import EngineUnusable, PermissionFailure, TargetExists, TooLittleMemory
from mkllm.runtime.hardware.load import Load
from mkllm.runtime.hardware.settings import Settings
from mkllm.runtime.hardware.tune import NotMeasured
from mkllm.runtime.progress import Steps, waiting
from mkllm.runtime.session import Survey, expect_kernel, expect_text, fit_model, memory_repacked, opened, survey
from mkllm.runtime.signals import uninterrupted

STDOUT = "-"
CACHES = 16  # the buffer is so many times as large as the L3 cache
LEAST, MOST = 256, 4096  # megabytes of it
SHARE = 4  # of the free memory it takes no more than this part


@dataclass(frozen=True)
class Wanted:
    """What was asked for; `csv` STDOUT is standard output."""

    prompt: int = 512
    tokens: int = 64
    rounds: int = 5
    depth: int = 0
    everything: bool = False
    json: bool = False
    csv: str | None = None
    plot: str | None = None


def run(wanted: Wanted, options: EngineOptions, kernel: str | None) -> int:
    """Measure and print. Raises a RuntimeFailure for everything that goes wrong."""
    with opened() as (artifact, home), _files(wanted, artifact) as (csv, plot):
        expect_text(artifact)
        found = survey(artifact, home, options, kernel)
        expect_kernel(found.ranking, kernel)
        course = course_of(wanted, found)
        speeds = _measured(found, wanted, course)
        _write(csv, as_csv(speeds))
        _write(plot, chart(speeds))
    if wanted.json:
        print(json.dumps(as_object(speeds), indent=2, ensure_ascii=False))
    elif wanted.csv == STDOUT:
        sys.stdout.write(as_csv(speeds))
    else:
        print("\n".join(lines(speeds, terminal_width())))
    return 0


def course_of(wanted: Wanted, found: Survey) -> Course:
    """Raises WrongArgument where the model's context is too short for it, TooLittleMemory where memory is."""
    manifest = found.artifact.manifest
    course = Course(
        prompt=wanted.prompt,
        tokens=wanted.tokens,
        rounds=wanted.rounds,
        depth=wanted.depth,
        batch=found.fit.batch,
        refill=manifest.model.memory.cache_state > 0,
    )
    if course.context > manifest.model.context:
        raise WrongArgument(
            f"{course.context} tokens of context are needed, and the model has {manifest.model.context}: "
            "ask for fewer by --depth, --prompt-tokens or --tokens"
        )
    fitted = fit_model(found.artifact, found.facts, replace(found.options, context=course.context))
    if fitted.context < course.context:
        raise TooLittleMemory(
            f"{course.context} tokens of context do not fit into the {size(found.facts.memory_available)} of memory "
            "that are free: end other programs, or ask for fewer by --depth"
        )
    return course


def runners_of(found: Survey, chosen: Settings, everything: bool) -> tuple[tuple[Runner, ...], tuple[str, ...]]:
    """What is measured, and notes on what is not."""
    choices = {choice.name: choice for choice in found.ranking.choices}
    if not everything:
        return (Runner(choices[chosen.kernel], chosen),), ()
    modes, notes = _layouts(found)
    settings = [replace(chosen, kernel=name, repack=repack) for name in choices for repack in modes]
    return tuple(Runner(choices[one.kernel], one) for one in settings), notes


def _layouts(found: Survey) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Whether weights are repacked, in each way that they can be measured here; and notes."""
    if found.settled.prepacked:
        return (True,), ()
    needed = memory_repacked(found.artifact, found.fit, found.options)
    if 0 < found.facts.memory_available < needed:
        return (False,), (f"Repacked weights are left out: they need {size(needed)} of free memory.",)
    return (False, True), ()


def _measured(found: Survey, wanted: Wanted, course: Course) -> Speeds:
    chosen = settings_of(found, tuning_of(found, "quick").tuning)
    assert chosen is not None
    runners, notes = runners_of(found, chosen, wanted.everything)
    buffer = buffer_of(found)
    load, laboratory = Load(), found.laboratory()
    try:
        results = _raced(laboratory, course, runners)
        memory, why = _memory(laboratory, runners, chosen, buffer)
    finally:
        with uninterrupted():
            laboratory.close()
    return Speeds(
        manifest=found.artifact.manifest,
        facts=found.facts,
        course=course,
        chosen=chosen,
        results=results,
        bandwidth=spread(memory),
        buffer=buffer,
        others=load.others(),
        busy=load.is_busy(),
        notes=(*notes, *why),
    )


def _raced(laboratory: Laboratory, course: Course, runners: tuple[Runner, ...]) -> tuple[Result, ...]:
    """Raises EngineUnusable if nothing at all could be measured."""
    with Steps() as steps:
        race = Race(laboratory, course, runners, steps.begin)
        steps.total = race.steps
        results = race.run()
    if not any(result.generations for result in results):
        reasons = "; ".join(f"{result.failure}" for result in results)
        raise EngineUnusable(f"nothing could be measured ({reasons}): 'doctor' says what runs here")
    return results


def _memory(
    laboratory: Laboratory, runners: tuple[Runner, ...], chosen: Settings, buffer: int
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Bandwidths, and a note if there are none."""
    runner = next((runner for runner in runners if runner.settings == chosen), runners[0])
    if not buffer:
        return (), ("The memory was not measured: too little of it is free.",)
    try:
        with waiting("measuring the memory"):
            return bandwidth(laboratory, runner, buffer), ()
    except NotMeasured as failure:
        return (), (f"The memory was not measured: {failure}.",)


def buffer_of(found: Survey) -> int:
    """Megabytes to read: much more than the L3 cache holds, and no more than a part of what is free; 0: too little."""
    cache = found.facts.caches.get("L3", 0) >> 20
    free = (found.facts.memory_available >> 20) // SHARE
    megabytes = min(MOST, max(LEAST, CACHES * cache), free)
    return megabytes if megabytes >= max(1, 2 * cache) else 0


@contextmanager
def _files(wanted: Wanted, artifact: Artifact) -> Iterator[tuple[Draft | None, Draft | None]]:
    """The files to write, open before anything is measured; they appear when they are whole."""
    names = [name for name in (wanted.csv, wanted.plot) if name not in (None, STDOUT)]
    for name in names:
        _expect_place(str(name), artifact)
    with ExitStack() as stack:
        csv = stack.enter_context(draft(Path(wanted.csv))) if wanted.csv and wanted.csv != STDOUT else None
        plot = stack.enter_context(draft(Path(wanted.plot))) if wanted.plot else None
        yield csv, plot


def _expect_place(name: str, artifact: Artifact) -> None:
    """Only a plain file is replaced, and never the artifact."""
    path = Path(name)
    if path.exists() and not path.is_file():
        raise PermissionFailure(f"{name!r} cannot be written (it is no plain file): choose another name")
    if artifact.is_own(path):
        raise TargetExists(f"{name!r} is the artifact itself: choose another name")


def _write(file: Draft | None, text: str) -> None:
    if file:
        with open(file.descriptor, "w", encoding="utf-8", errors="replace", closefd=False) as stream:
            stream.write(text)
        file.commit(0o644, force=True)
