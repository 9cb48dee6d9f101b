"""How a kernel is started: what is settled before anything is measured, what was found, and what follows; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mkllm.runtime.amounts import counted
from mkllm.runtime.artifact.footprint import BATCH
from mkllm.runtime.hardware.rank import Choice

Effort = Literal["off", "quick", "full"]
# What was compared with each other: kernels (with weights mapped or repacked), numbers of threads, and so on.
Step = Literal["kernel", "generating", "reading", "attention", "batch"]
# What settings are compared by: the time of a turn that reads this many tokens and writes that many.
TURN_PROMPT, TURN_ANSWER = 512, 256


@dataclass(frozen=True)
class Settled:
    """What is settled already (None: is to be found out), by the user or by the memory there is.

    `threads` is what the ranking would take where it is not settled; `batch` the physical batch that fits into memory.
    `prepacked`: weights lie in the file as some kernel has them repacked.
    """

    threads: int
    batch: int = BATCH
    threads_settled: bool = False
    threads_batch: int | None = None
    repack: bool | None = None
    flash: bool | None = None
    batch_settled: bool = False
    prepacked: bool = False


@dataclass(frozen=True)
class Settings:
    """How the engine is started. None: as the engine does by itself."""

    kernel: str
    threads: int
    threads_batch: int
    repack: bool = False
    flash: bool | None = None
    batch: int | None = None
    prepacked: bool = False

    @property
    def layout(self) -> str:
        """Of the weights: `mapped`, `repacked`, `prepacked`."""
        if not self.repack:
            return "mapped"
        return "prepacked" if self.prepacked else "repacked"


@dataclass(frozen=True)
class Trial:
    """One measurement: what was set (`what`, for people), tokens a second of the whole model; 0: not measured."""

    what: str
    settings: Settings
    prompt: float
    generation: float
    step: Step = "kernel"

    @property
    def turn(self) -> float:
        """Seconds that a turn takes."""
        if not self.prompt or not self.generation:
            return float("inf")
        return TURN_PROMPT / self.prompt + TURN_ANSWER / self.generation


@dataclass(frozen=True)
class Tuning:
    """What was found. `lasting`: good for the next launch too; else a note says why not. `busy`: others were then.

    `crashed` names kernels whose process died, with how. `seconds` is what the measuring took.
    """

    settings: Settings
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()
    crashed: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    lasting: bool = True
    busy: bool = False


def untuned(choices: Sequence[Choice], settled: Settled, *notes: str) -> Tuning:
    """The ranking's own settings."""
    batch = settled.threads_batch or settled.threads
    settings = Settings(choices[0].name, settled.threads, batch, settled.repack or False, prepacked=settled.prepacked)
    return Tuning(settings, notes=notes, lasting=False)


@dataclass(frozen=True)
class Tuned:
    """Kernels in the order to try them, each with how to start it."""

    choices: tuple[Choice, ...]
    tuning: Tuning
    settled: Settled

    def settings(self, choice: Choice) -> Settings:
        """What was found is good for the kernel that it was found for."""
        return self.tuning.settings if choice.name == self.tuning.settings.kernel else _plain(choice, self.settled)


def tuned(choices: Sequence[Choice], settled: Settled, tuning: Tuning) -> Tuned:
    """What was chosen first, what crashed left out (unless nothing else is there), the rest as it was ranked."""
    dead = dict(tuning.crashed) if tuning.trials else {}  # where all crash, it may be the part of the model
    alive = [choice for choice in choices if choice.name not in dead] or list(choices)
    alive.sort(key=lambda choice: choice.name != tuning.settings.kernel)
    if tuning.trials and alive[0].name == tuning.settings.kernel:
        alive[0] = replace(alive[0], reason=f"{alive[0].title}; measured here: {_words(tuning.settings)}")
    return Tuned(tuple(alive), tuning, settled)


def _plain(choice: Choice, settled: Settled) -> Settings:
    return untuned([choice], settled).settings


def _words(settings: Settings) -> str:
    """`weights repacked, 8 threads (16 to read)`."""
    threads = counted(settings.threads, "thread")
    if settings.threads_batch != settings.threads:
        threads += f" ({settings.threads_batch} to read)"
    words = [f"weights {settings.layout}", threads]
    if settings.flash is False:
        words.append("no flash attention")
    if settings.batch:
        words.append(f"batches of {settings.batch}")
    return ", ".join(words)
