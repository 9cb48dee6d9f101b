"""What `doctor` found out, as one value, and as one object for programs; looks at nothing itself."""

import dataclasses
import time
from dataclasses import dataclass

from mkllm.runtime.artifact.footprint import BATCH
from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.advice import Advice
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Ranking
from mkllm.runtime.hardware.settings import Settings, Settled, Step, Trial, Tuning
from mkllm.runtime.hardware.variants import VARIANTS


@dataclass(frozen=True)
class Examination:
    """All that there is to show.

    `settings` are those of the next launch, None when no kernel runs here. `tuning` is None where nothing was measured
    or remembered; `measured` is when it was, in seconds since 1970, None where it was just now and is not remembered.
    `remembered`: it was there already. `place` is the home's kind.
    """

    path: str
    size: int
    weights: int
    file_system: str
    manifest: Manifest
    facts: Facts
    fit: Fit | TooLittleMemory
    ranking: Ranking
    settled: Settled
    settings: Settings | None
    tuning: Tuning | None
    measured: float | None
    remembered: bool
    home: str
    place: str
    advice: tuple[Advice, ...]


@dataclass(frozen=True)
class Compared:
    """One trial beside the one that was chosen of its step; `slower` by which share (0.1: a tenth), None: not known."""

    trial: Trial
    chosen: bool
    slower: float | None


def compared(tuning: Tuning) -> tuple[Compared, ...]:
    """Every trial of the tuning: by the time of a turn where both speeds are known, else by the one that is."""
    best = {trial.step: trial for trial in tuning.trials if _is_chosen(trial, tuning.settings)}
    return tuple(_compared(trial, best.get(trial.step)) for trial in tuning.trials)


def _compared(trial: Trial, best: Trial | None) -> Compared:
    if best is None:
        return Compared(trial, False, None)
    if trial is best:
        return Compared(trial, True, 0.0)
    return Compared(trial, False, _cost(trial) / _cost(best) - 1)


def _cost(trial: Trial) -> float:
    return trial.turn if trial.prompt and trial.generation else 1 / (trial.prompt or trial.generation)


def _is_chosen(trial: Trial, settings: Settings) -> bool:
    return _varied(trial.step, trial.settings) == _varied(trial.step, settings)


def _varied(step: Step, settings: Settings) -> object:
    """What is tried out in a step."""
    return {
        "kernel": (settings.kernel, settings.repack),
        "generating": settings.threads,
        "reading": settings.threads_batch,
        "attention": settings.flash is not False,
        "batch": settings.batch or BATCH,
    }[step]


def features(facts: Facts) -> tuple[list[str], list[str]]:
    """Of the instruction sets that kernels are made for: those that this processor has, and those that it lacks."""
    needs = [flag for row in reversed(VARIANTS) if row.machine == facts.machine for flag in row.needs]
    known = list(dict.fromkeys(needs))
    return [flag for flag in known if flag in facts.cpu_flags], [flag for flag in known if flag not in facts.cpu_flags]


def as_object(seen: Examination) -> dict[str, object]:
    """Everything, for programs; speeds in tokens a second, sizes in bytes."""
    manifest, (has, lacks) = seen.manifest, features(seen.facts)
    return {
        "file": {
            "path": seen.path,
            "size": seen.size,
            "file_system": seen.file_system or None,
            "created_by": manifest.created_by,
            "kit": dataclasses.asdict(manifest.kit),
        },
        "model": {"name": manifest.name, "weights": seen.weights, **dataclasses.asdict(manifest.model)},
        "home": {"path": seen.home, "kind": seen.place},
        "machine": seen.facts.as_object(),
        "features": {"has": has, "lacks": lacks},
        "fit": {"error": str(seen.fit)} if isinstance(seen.fit, TooLittleMemory) else dataclasses.asdict(seen.fit),
        "settled": dataclasses.asdict(seen.settled),
        "chosen": seen.settings and dataclasses.asdict(seen.settings),
        **seen.ranking.as_object(),
        "tuning": seen.tuning and _tuning(seen, seen.tuning),
        "advice": [dataclasses.asdict(advice) for advice in seen.advice],
    }


def _tuning(seen: Examination, tuning: Tuning) -> dict[str, object]:
    trials = [
        {**dataclasses.asdict(found.trial), "chosen": found.chosen, "slower": found.slower}
        for found in compared(tuning)
    ]
    return {
        "measured_at": None if seen.measured is None else when(seen.measured),
        "remembered": seen.remembered,
        "seconds": tuning.seconds,
        "lasting": tuning.lasting,
        "trials": trials,
        "crashed": [{"name": name, "reason": sentence} for name, sentence in tuning.crashed],
        "notes": list(tuning.notes),
    }


def when(moment: float) -> str:
    """`2026-03-01 17:05`, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
