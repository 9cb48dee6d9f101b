"""Facts to choices: which kernels this machine can run, best first, and why not the others; pure, looks at nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.variants import VARIANTS, Variant


@dataclass(frozen=True)
class Choice:
    """A backend that the machine can run. `title` is what it uses ("AVX-512 with VNNI"), `reason` why it is here."""

    backend: Backend
    title: str
    reason: str

    @property
    def name(self) -> str:
        """The kernel's name, such as `cpu-zen4`."""
        return self.backend.name

    @property
    def sentence(self) -> str:
        """For people: `cpu-zen4 (AVX-512 with VNNI and BF16; best of 14)`."""
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class Rejection:
    """A backend that is not used, and the reason in words: `skipped, no avx512_bf16`."""

    name: str
    reason: str


@dataclass(frozen=True)
class Ranking:
    """`choices` best first; every backend of the artifact is in one of the two."""

    choices: tuple[Choice, ...]
    rejections: tuple[Rejection, ...]


def rank(
    facts: Facts, backends: Sequence[Backend], only: str | None = None, crashed: Mapping[str, str] | None = None
) -> Ranking:
    """Order the artifact's `backends` for the machine of `facts`; `only` (a name) rejects all others.

    `crashed` kernels (with how) are left out as long as another is there, and this one was not asked for by name.
    """
    found = _rank(facts, backends, only, {} if only else crashed or {})
    return found if found.choices or not crashed else _rank(facts, backends, only, {})


def _rank(facts: Facts, backends: Sequence[Backend], only: str | None, crashed: Mapping[str, str]) -> Ranking:
    order = {variant.name: position for position, variant in enumerate(VARIANTS)}
    ordered = sorted(backends, key=lambda backend: order.get(backend.name, len(order)))
    choices: list[Choice] = []
    rejections: list[Rejection] = []
    for backend in ordered:
        why_not = _why_not(facts, backend.name, only)
        if why_not is None and backend.name in crashed:
            why_not = f"skipped, {crashed[backend.name]}"
        if why_not:
            rejections.append(Rejection(backend.name, why_not))
        else:
            choices.append(_choice(backend, len(choices), len(backends)))
    return Ranking(tuple(choices), tuple(rejections))


def _variant(name: str) -> Variant | None:
    return next((variant for variant in VARIANTS if variant.name == name), None)


def _why_not(facts: Facts, name: str, only: str | None) -> str | None:
    variant = _variant(name)
    if variant is None:
        return "skipped, this program does not know what it needs"
    if variant.machine != facts.machine:
        return f"skipped, made for {variant.machine}, this machine is {facts.machine}"
    missing = [flag for flag in variant.needs if flag not in facts.cpu_flags]
    if missing:
        return f"skipped, no {', '.join(missing)}"
    if only is not None and name != only:
        return f"skipped, {only!r} was asked for"
    return None


def _choice(backend: Backend, position: int, total: int) -> Choice:
    variant = _variant(backend.name)
    title = variant.title if variant else ""
    place = "the only one" if total == 1 else f"best of {total}" if position == 0 else f"number {position + 1} here"
    return Choice(backend, title, f"{title}; {place}")
