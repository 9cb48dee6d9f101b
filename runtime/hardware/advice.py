"""What would make a model faster here: one rule for each cause, each with its numbers; pure, looks at nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.disk import SLOW
from mkllm.runtime.artifact.footprint import BATCH
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import Settled, Tuning
from mkllm.runtime.hardware.variants import VARIANTS


@dataclass(frozen=True)
class Case:
    """What the advice is about.

    `fit` is None where the model does not fit into memory at all. `kernels` are those of the file, best first, `runs`
    those of them that run here, and `crashes` those left out since they crashed, with how. `weights` and
    `memory_repacked` (what is to be free to repack them) are in bytes, as is `context_bytes`, what the caches of the
    whole `trained` context take. `remembers`: what is measured is good for the next launch too. `tuning` is None where
    nothing was measured.
    """

    facts: Facts
    kernels: tuple[str, ...]
    runs: tuple[str, ...]
    weights: int
    memory_repacked: int
    trained: int
    context_bytes: int
    fit: Fit | None
    settled: Settled
    tuning: Tuning | None
    crashes: Mapping[str, str] = field(default_factory=dict)
    remembers: bool = True
    file_system: str = ""


@dataclass(frozen=True)
class Advice:
    """`topic` is one word for programs, `text` what is so and what to do about it, for people."""

    topic: str
    text: str


def advise(case: Case) -> tuple[Advice, ...]:
    """What can be done, in the order of RULES; nothing where nothing is known."""
    return tuple(Advice(topic, text) for topic, rule in RULES.items() for text in rule(case))


def _kernel(case: Case) -> Iterator[str]:
    """A file made with fewer kernels than there are may lack the one for this machine."""
    best = next((row for row in VARIANTS if _fits(row.machine, row.needs, case.facts)), None)
    order = [row.name for row in VARIANTS]
    if best is None or best.name in case.kernels:
        return
    if all(order.index(best.name) < order.index(name) for name in case.runs if name in order):
        yield (
            f"This processor has {best.title}, and the file has no kernel for that ({best.name}): "
            "have it built with a kit of all variants."
        )


def _fits(machine: str, needs: tuple[str, ...], facts: Facts) -> bool:
    return machine == facts.machine and facts.cpu_flags.issuperset(needs)


def _crashed(case: Case) -> Iterator[str]:
    for name, how in case.crashes.items():
        yield f"{name} is left out: {how}. '--kernel {name}' tries it once, 'doctor --tune full' measures it again."


def _driver(case: Case) -> Iterator[str]:
    for look in case.facts.gpus:
        if look.remedy:
            yield f"{look.backend} is left out: {look.trouble}. {look.remedy}"


def _affinity(case: Case) -> Iterator[str]:
    facts = case.facts
    if facts.cpus_online > facts.cpus:
        yield (
            f"This program may use {facts.cpus} of the machine's {facts.cpus_online} processors: "
            "a wider affinity mask (taskset, the container's cpuset) allows more threads."
        )


def _quota(case: Case) -> Iterator[str]:
    facts = case.facts
    if facts.cpu_quota is not None and facts.cpu_quota < facts.cores:
        yield (
            f"The container's quota is {facts.cpu_quota:g} of {facts.cores} cores: a larger one (docker --cpus) "
            "allows more threads."
        )


def _busy(case: Case) -> Iterator[str]:
    tuning = case.tuning
    if tuning and tuning.trials and tuning.busy:
        yield (
            "Other programs were busy while it was measured, so another setting may be the best on a quiet machine: "
            "end them, then 'doctor --tune full'."
        )


def _memory(case: Case) -> Iterator[str]:
    facts, fit = case.facts, case.fit
    taken = case.weights + fit.caches + fit.buffers if fit else 0
    if 0 < facts.memory_available < taken:
        yield (
            f"{size(taken)} of memory are needed and {size(facts.memory_available)} are free, so parts of the model "
            "are read from the disk again and again: end other programs."
        )


def _copy(case: Case) -> Iterator[str]:
    facts = case.facts
    if case.fit and case.settled.repack is False and 0 < facts.memory_available < case.memory_repacked:
        yield (
            f"Weights are mapped, since to repack them takes {size(case.memory_repacked)} of free memory and "
            f"{size(facts.memory_available)} are free: with more, repacked weights can be measured too."
        )


def _context(case: Case) -> Iterator[str]:
    facts, fit = case.facts, case.fit
    rest = facts.memory_available - case.weights
    if fit and facts.memory_total and fit.context < case.trained and case.context_bytes > rest:
        yield (
            f"The context is {fit.context} of {case.trained} tokens: all take {size(case.context_bytes)} of memory, "
            f"and {size(max(0, rest))} are free beside the weights. More free memory allows a longer one."
        )


def _batch(case: Case) -> Iterator[str]:
    if case.fit and any(note.startswith("batch:") for note in case.fit.notes):
        yield (
            f"Prompts are read {case.fit.batch} tokens at once instead of {BATCH}, since "
            f"{size(case.facts.memory_available)} of memory are free: free some more, or ask for it by '-ub {BATCH}'."
        )


def _huge_pages(case: Case) -> Iterator[str]:
    if case.facts.huge_pages == "never" and case.tuning and case.tuning.settings.layout == "repacked":
        yield (
            "Repacked weights lie in memory in pages of 4 KiB, since huge ones are off ('never'): as root, "
            "'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled'."
        )


def _disk(case: Case) -> Iterator[str]:
    if case.file_system in SLOW:
        yield (
            f"The file lies on {case.file_system}, where the first read of the model is slow: "
            f"copy its {size(case.weights)} to a disk of this machine."
        )


def _home(case: Case) -> Iterator[str]:
    if not case.remembers:
        yield (
            "There is no folder that lasts, so nothing is measured at a launch and nothing is remembered: "
            "set MKLLM_RUNTIME_DIR to one that can be written and allows programs."
        )


RULES: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "memory": _memory,
    "kernel": _kernel,
    "crash": _crashed,
    "driver": _driver,
    "affinity": _affinity,
    "quota": _quota,
    "busy": _busy,
    "repack": _copy,
    "huge pages": _huge_pages,
    "batch": _batch,
    "context": _context,
    "disk": _disk,
    "home": _home,
}
