"""What commands that show or measure speeds start from: the tuning that is remembered, or one that is made now."""

from dataclasses import dataclass, replace

from mkllm.runtime.hardware.plans import Plans
from mkllm.runtime.hardware.settings import Effort, Settings, Tuning, tuned, untuned
from mkllm.runtime.hardware.tune import FULL_SECONDS, QUICK_SECONDS
from mkllm.runtime.progress import waiting
from mkllm.runtime.session import Survey

NOWHERE = Plans(None, "", "")


@dataclass(frozen=True)
class Known:
    """A tuning, whether it was there already, and when it was measured (None: it is not remembered)."""

    tuning: Tuning | None
    remembered: bool = False
    measured: float | None = None


def tuning_of(found: Survey, effort: Effort) -> Known:
    """What is remembered, or what is measured now, and then remembered where that can be."""
    known = None if effort == "full" else found.recalled()
    if known:
        return Known(known, remembered=True, measured=found.plans.measured())
    if effort == "off" or not found.is_measurable:
        return Known(None)
    tuning = _all_measured(found) if effort == "full" else _measured(found, effort)
    return Known(tuning, measured=found.plans.measured() if found.plans.recall() else None)


def _all_measured(found: Survey) -> Tuning:
    """Kernels that crashed here are tried again, and what was remembered before is forgotten."""
    tuning = _measured(replace(found.ranked({}), plans=NOWHERE), "full")
    found.plans.forget()
    found.plans.remember(tuning)
    return tuning


def _measured(found: Survey, effort: Effort) -> Tuning:
    seconds = FULL_SECONDS if effort == "full" else QUICK_SECONDS
    with waiting(f"measuring what is fastest on this machine, for at most {seconds:.0f} s"):
        return found.tuner(effort).measure()


def settings_of(found: Survey, tuning: Tuning | None) -> Settings | None:
    """Of the next launch."""
    choices = found.ranking.choices
    if not choices:
        return None
    kept = tuned(choices, found.settled, tuning or untuned(choices, found.settled))
    return kept.settings(kept.choices[0])
