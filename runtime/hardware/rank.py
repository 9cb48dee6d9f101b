"""Facts to choices: which kernels this machine can run, best first, and why not the others; pure, looks at nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.variants import GPUS, VARIANTS, Variant

if TYPE_CHECKING:
    from mkllm.runtime.hardware.offload import Burden, Offload


@dataclass(frozen=True)
class Choice:
    """A backend that the machine can run. `title` is what it uses ("AVX-512 with VNNI"), `reason` why it is here.

    `beside` are backends that it needs to be loaded too; `words` and `environment` are what the engine is told for it.
    """

    backend: Backend
    title: str
    reason: str
    beside: tuple[Backend, ...] = ()
    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The kernel's name, such as `cpu-zen4`."""
        return self.backend.name

    @property
    def sentence(self) -> str:
        """For people: `cpu-zen4 (AVX-512 with VNNI and BF16; best of 14)`."""
        return f"{self.name} ({self.reason})"

    def arguments(self, common: Sequence[str]) -> tuple[str, ...]:
        """The engine's: its own between the command and the rest of those `common` to all; the user's come later."""
        return (*common[:1], *self.words, *common[1:])


@dataclass(frozen=True)
class Rejection:
    """A backend that is not used, and the reason in words: `skipped, no avx512_bf16`.

    `told` False: the user knows, having asked for another.
    """

    name: str
    reason: str
    told: bool = True


@dataclass(frozen=True)
class Ranking:
    """`choices` best first; every backend of the artifact is in one of the two."""

    choices: tuple[Choice, ...]
    rejections: tuple[Rejection, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Why no GPU is used, where this file could use one: nobody shall have to guess it from the speed."""
        return tuple(f"{item.name}: {item.reason}" for item in self.rejections if item.name in GPUS and item.told)

    def as_object(self) -> dict[str, object]:
        """For JSON: both, with their reasons."""
        return {
            "kernels": [{"name": choice.name, "reason": choice.reason} for choice in self.choices],
            "rejected": [{"name": rejection.name, "reason": rejection.reason} for rejection in self.rejections],
        }


def rank(
    facts: Facts,
    backends: Sequence[Backend],
    only: str | None = None,
    crashed: Mapping[str, str] | None = None,
    burden: "Burden | None" = None,
) -> Ranking:
    """Order the artifact's `backends` for the machine of `facts`; `only` (a name) rejects all others.

    `crashed` kernels (with how) are left out as long as another is there, and this one was not asked for by name.
    GPUs come first; `burden` is what of the model they would have to hold.
    """
    found = _rank(facts, backends, only, {} if only else crashed or {}, burden)
    return found if found.choices or not crashed else _rank(facts, backends, only, {}, burden)


def _rank(
    facts: Facts, backends: Sequence[Backend], only: str | None, crashed: Mapping[str, str], burden: "Burden | None"
) -> Ranking:
    gpus = [backend for name in GPUS for backend in backends if backend.name == name]
    rest = [backend for backend in backends if backend.name not in GPUS]
    ranking = _rank_cpu(facts, rest, only, crashed)
    if not gpus:
        return ranking
    beside = _rank_cpu(facts, rest, None, crashed).choices[:1]
    found = [
        Rejection(backend.name, f"skipped, {crashed[backend.name]}")
        if backend.name in crashed
        else _gpu(facts, backend, beside, only, burden)
        for backend in gpus
    ]
    choices = [item for item in found if isinstance(item, Choice)]
    rejections = [item for item in found if isinstance(item, Rejection)]
    return Ranking((*choices, *ranking.choices), (*rejections, *ranking.rejections))


def _gpu(
    facts: Facts, backend: Backend, cpu: Sequence[Choice], only: str | None, burden: "Burden | None"
) -> Choice | Rejection:
    """With the best of the CPU's beside it, which computes what is not on the GPU. Most files have no such backend, and
    do not wait for what is imported here."""
    from mkllm.runtime.hardware.offload import Burden, gibibytes, offload

    look = next((look for look in facts.gpus if look.backend == backend.name), None)
    if only not in (None, backend.name):
        return Rejection(backend.name, f"skipped, {only!r} was asked for", told=False)
    if look is None:
        return Rejection(backend.name, "skipped, this machine's GPUs were not looked at")
    if not cpu:
        return Rejection(backend.name, "skipped, no kernel for the CPU runs beside it")
    use = look.trouble or offload(burden or Burden(), look.devices, facts, by_name=only == backend.name)
    if isinstance(use, str):
        return Rejection(backend.name, f"skipped, {use}")
    title = ", and ".join(f"{device.title}, {gibibytes(device.memory_total)}" for device in use.devices)
    environment = use.devices[0].environment
    return Choice(backend, title, f"{title}; {_share(use, cpu[0])}", (cpu[0].backend,), use.words, environment)


def _share(use: "Offload", cpu: Choice) -> str:
    """`all 32 layers`, `20 of 32 layers, the rest on cpu-haswell`."""
    if use.whole:
        return f"all {use.total} layers" if use.total else "all layers"
    return f"{use.layers} of {use.total} layers, the rest on {cpu.name}"


def _rank_cpu(facts: Facts, backends: Sequence[Backend], only: str | None, crashed: Mapping[str, str]) -> Ranking:
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
