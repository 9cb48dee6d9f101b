"""An artifact with its engine starting: probe, rank, place, start; at the end stopped and cleaned up."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mkllm.runtime.artifact.manifest import PROJECTOR, Manifest
from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.artifact.reader import Artifact, open_artifact
from mkllm.runtime.engine.arguments import EngineOptions, arguments, asked, open_questions, projector_memory
from mkllm.runtime.engine.log import Log, Logging
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.engine.placed import Embedded, Weights
from mkllm.runtime.engine.supervisor import Order, Plan, Supervisor
from mkllm.runtime.errors import EngineUnusable, NoChat, TooLittleMemory
from mkllm.runtime.gpus import gpu_burden, has_gpu_backend, see_gpus, with_gpu_memory
from mkllm.runtime.hardware.fit import Fit, fit
from mkllm.runtime.hardware.plans import Plans, plans
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.rank import Choice, Ranking, rank
from mkllm.runtime.hardware.settings import Effort, Settings, Settled, Tuned, Tuning, tuned, untuned
from mkllm.runtime.hardware.variants import GPUS
from mkllm.runtime.home import Home, open_home, prune, watch_guardian
from mkllm.runtime.own_file import own_file
from mkllm.runtime.signals import uninterrupted

if TYPE_CHECKING:
    from mkllm.runtime.engine.measure import Laboratory
    from mkllm.runtime.engine.tuner import Tuner

SMALL_MODEL = 16 << 20
LONG_TO_REPACK = 128 << 20
PLANS = "plans"


@dataclass(frozen=True)
class Session:
    """`engine` is starting or runs. `model_id` is the model's name in the API."""

    artifact: Artifact
    home: Home
    facts: Facts
    ranking: Ranking
    fit: Fit
    model_id: str
    engine: Supervisor

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this launch: what was reduced, and why no GPU is used."""
        return (*self.fit.notes, *self.ranking.notes)

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.artifact.manifest


@contextmanager
def start_session(
    options: EngineOptions, kernel: str | None, logging: Logging, chats: bool = False
) -> Iterator[Session]:
    """Start the engine of this program's own artifact; it ends with the block. `kernel`: this one and no other.

    Raises NoChat, before anything is started, where it is to chat and its model does not.
    """
    with opened() as (artifact, home):
        if chats:
            expect_text(artifact)
        found = survey(artifact, home, options, kernel)
        expect_kernel(found.ranking, kernel)
        engine = Supervisor(found.plan(Log(logging)))
        try:
            engine.start()
            prune(home)
            model_id = options.alias or artifact.manifest.name
            yield Session(artifact, home, found.facts, found.ranking, found.fit, model_id, engine)
        finally:
            with uninterrupted():
                engine.stop()


@dataclass(frozen=True)
class Survey:
    """An artifact on this machine before anything is started: all that the plan of a start depends on.

    `kernel` is the one that was asked for by name, `proven` one that has computed this model here before, and has not
    ended by itself since.
    """

    artifact: Artifact
    home: Home
    facts: Facts
    options: EngineOptions
    kernel: str | None
    fit: Fit
    settled: Settled
    plans: Plans
    ranking: Ranking
    proven: str | None = None

    def plan(self, log: Log) -> Plan:
        """How the engine is started: as was measured here before, or will be before the start, or as it is ranked."""
        choices = self.ranking.choices
        known = self.recalled() if self.options.tune == "quick" else None
        is_proven = known is not None and self.plans.is_proven(known.settings.kernel)
        ready = replace(self, proven=known.settings.kernel) if known and is_proven else self
        order = ready.order(tuned(choices, self.settled, known or untuned(choices, self.settled)))
        order.arguments(order.choices[0])  # raises for what can be seen to be wrong before any start
        return Plan(
            order=order,
            placer=Modules(self.artifact, self.home),
            weights=self.weights,
            log=log,
            frozen_home=self.home.frozen,
            tuner=self.tuner(self.options.tune) if self._is_worth_tuning and not known else None,
            crashed=lambda choice, sentence: self.plans.remember_crash(choice.name, sentence),
            proven=self._prove,
            doubted=lambda choice: self.plans.doubt(choice.name),
        )

    def _prove(self, choice: Choice) -> None:
        if self.options.tune != "off":  # else it was not started as it is recalled
            self.plans.remember_proven(choice.name)

    @property
    def is_measurable(self) -> bool:
        """Only kernels of the CPU are measured, for a GPU that can be used comes first, and of models that generate."""
        generates = not self.artifact.manifest.model.pooling
        return generates and bool(self.ranking.choices) and self.ranking.choices[0].name not in GPUS

    def recalled(self) -> Tuning | None:
        """What was measured here before, unless the kernel that was chosen has crashed since."""
        known = self.plans.recall() if self.is_measurable else None
        names = {choice.name for choice in self.ranking.choices}
        return known if known and known.settings.kernel in names else None

    def ranked(self, crashes: Mapping[str, str]) -> "Survey":
        """The same with these kernels left out, and no others."""
        ranking = ranking_of(self.artifact, self.facts, self.fit, self.options, self.kernel, crashes)
        return replace(self, ranking=ranking)

    def order(self, found: Tuned) -> Order:
        """The engine's arguments, of what was found. For one answer, to repack would take longer than it saves."""
        if self.options.brief and self.settled.repack is None:
            mapped = replace(found.tuning, settings=replace(found.tuning.settings, repack=False))
            found = tuned(found.choices, self.settled, mapped)

        def at_once(choice: Choice) -> Sequence[str] | None:
            settings = found.settings(choice)
            return self.words(replace(settings, repack=False)) if settings.repack and self._has_two else None

        return Order(found.choices, lambda choice: self.words(found.settings(choice)), at_once)

    def words(self, settings: Settings) -> Sequence[str]:
        """The engine's arguments."""
        proven = settings.kernel == self.proven
        return arguments(self.artifact.manifest, self.options, self.fit, settings, proven)

    @property
    def _has_two(self) -> bool:
        """Whether one engine may serve while another repacks: where that takes time, and there is memory for both."""
        if self.settled.repack is not None or self.weights.length < LONG_TO_REPACK:
            return False
        projector = projector_memory(self.artifact.manifest, self.options)
        both = self.weights.length + 2 * (self.fit.caches + self.fit.buffers + projector)
        return not self.facts.memory_total or self.facts.memory_available > both * 1.1

    @property
    def weights(self) -> Weights:
        """Where the model lies."""
        return weights_of(self.artifact, self.home)

    @property
    def _is_worth_tuning(self) -> bool:
        """Where it can be remembered, and takes less than what it saves; always when it is asked for."""
        durable = self.home.kind == "cache" and self.weights.length >= SMALL_MODEL
        wanted = self.options.tune == "full" or (self.options.tune == "quick" and durable)
        return wanted and self.is_measurable

    def tuner(self, effort: Effort) -> "Tuner":
        """Measures what is fastest, and remembers it."""
        from mkllm.runtime.engine.tuner import Tuner

        choices, plans = self.ranking.choices, self.plans
        return Tuner(choices, self.order, self.settled, self.facts, self.laboratory(), plans, effort)

    def laboratory(self) -> "Laboratory":
        """Where this model is measured."""
        from mkllm.runtime.engine.measure import Laboratory

        return Laboratory(Modules(self.artifact, self.home), self.weights, self.home.frozen)


def weights_of(artifact: Artifact, home: Home) -> Weights:
    """Where the model lies. Raises WeightsUnusable where that is beside the program, and is not as it was built."""
    lying, is_packed = artifact.model(), artifact.manifest.prepacked is not None
    manifest = artifact.manifest
    members = [*manifest.adapters, *(m for m in manifest.members if m.name == PROJECTOR)]
    others = tuple(Embedded(member.name, artifact.fileno(), member.offset, member.size) for member in members)
    weights = Weights(lying[0].descriptor, lying[0].offset, artifact.weights.size, is_packed, others=others)
    if len(lying) == 1:
        return weights
    from mkllm.runtime.engine.parts import first_of

    return replace(weights, first=first_of(lying, home.path), parts=tuple(part.descriptor for part in lying))


def survey(artifact: Artifact, home: Home, options: EngineOptions, kernel: str | None) -> Survey:
    """Look at this machine, and at what is remembered of it. Raises TooLittleMemory, or WrongArgument."""
    facts = see_gpus(probe(), artifact, Modules(artifact, home), home.frozen, kernel)
    options = for_device(artifact, facts, options)
    fitted = fit_model(artifact, facts, options)
    settled = settle(artifact, facts, options, fitted)
    known = plans_of(artifact, home, facts, settled, kernel)
    if options.tune == "full":
        known.forget()
    ranking = ranking_of(artifact, facts, fitted, options, kernel, known.crashes())
    return Survey(artifact, home, facts, options, kernel, fitted, settled, known, ranking)


def ranking_of(
    artifact: Artifact,
    facts: Facts,
    fitted: Fit | None,
    options: EngineOptions,
    kernel: str | None = None,
    crashes: Mapping[str, str] | None = None,
) -> Ranking:
    """The file's kernels on this machine; `fitted` is None where the model does not fit."""
    burden = gpu_burden(artifact, facts, fitted, options)
    return rank(facts, artifact.manifest.backends, kernel, crashes, burden)


@contextmanager
def opened() -> Iterator[tuple[Artifact, Home]]:
    """This program's own artifact, and its home; what must not outlive the block is removed after it."""
    with open_artifact(own_file()) as artifact:
        artifact.model()  # what is wrong with weights beside the program comes before anything else
        with a_home(artifact) as home:
            yield artifact, home


def settle(artifact: Artifact, facts: Facts, options: EngineOptions, fitted: Fit) -> Settled:
    """What is settled before anything is measured. Repacked weights are a second copy, which needs its room; prepacked
    ones are not."""
    found = open_questions(artifact.manifest, options, fitted, fit_threads(artifact, facts, options))
    if artifact.manifest.prepacked and found.repack is not False:
        return replace(found, repack=True, prepacked=True)
    is_tight = facts.memory_total > 0 and facts.memory_available < memory_repacked(artifact, fitted, options)
    return replace(found, repack=False) if found.repack is None and options.fit and is_tight else found


def memory_repacked(artifact: Artifact, fitted: Fit, options: EngineOptions) -> int:
    """Bytes that are to be free for weights to be repacked: for the copy and what is beside it, and some more."""
    beside = fitted.caches + fitted.buffers + projector_memory(artifact.manifest, options)
    return int((artifact.weights.size + beside) * 1.1)


def plans_of(artifact: Artifact, home: Home, facts: Facts, settled: Settled, kernel: str | None) -> Plans:
    """What is remembered of this model on this machine: beside the home, where that outlives the launch."""
    folder = home.path.parent / PLANS if home.kind == "cache" else None
    manifest = artifact.manifest
    names = [kernel] if kernel else [backend.name for backend in manifest.backends]
    return plans(folder, facts, manifest.kit.id, artifact.weights.sha256, settled, names)


def expect_text(artifact: Artifact) -> None:
    """Raise NoChat for a model that generates none."""
    if other := purpose(artifact.manifest.model):
        raise NoChat(other.sentence)


def expect_kernel(ranking: Ranking, kernel: str | None) -> None:
    """A kernel that was asked for by name and is not to be had is an error, never another kernel."""
    if ranking.choices:
        return
    reasons = {rejection.name: rejection.reason for rejection in ranking.rejections}
    if kernel is None:
        raise EngineUnusable("this machine runs none of the kernels in this file: 'info' says what each one needs")
    if kernel in reasons:
        raise EngineUnusable(f"the kernel {kernel!r} does not run here ({reasons[kernel]}): 'info' lists those that do")
    raise EngineUnusable(f"this file has no kernel {kernel!r}: it has {', '.join(reasons)}")


def fit_model(artifact: Artifact, facts: Facts, options: EngineOptions) -> Fit:
    """How the model is fitted into this machine's memory, and GPUs' if it must be. Raises TooLittleMemory."""
    manifest, weights = artifact.manifest, artifact.weights.size
    wanted = asked(manifest, options)
    try:
        return fit(wanted, manifest.model, weights, facts)
    except TooLittleMemory:
        more = with_gpu_memory(facts)
        if not more:
            raise
        return fit(wanted, manifest.model, weights, more)


def look_around(artifact: Artifact) -> Facts:
    """The facts of this machine, of its GPUs too if the file has a backend for them."""
    if not has_gpu_backend(artifact):
        return probe()
    with a_home(artifact) as home:
        return see_gpus(probe(), artifact, Modules(artifact, home), home.frozen, None)


def for_device(artifact: Artifact, facts: Facts, options: EngineOptions) -> EngineOptions:
    """With what the maker set for a device, if this machine is one."""
    device = artifact.manifest.defaults.device
    if device is None:
        return options
    from mkllm.runtime.hardware.device import is_device

    return replace(options, device=device) if is_device(device, facts) else options


def fit_threads(artifact: Artifact, facts: Facts, options: EngineOptions) -> int:
    """One for a small model: to share out its work among threads takes longer than to do it."""
    if artifact.weights.size < SMALL_MODEL:
        return 1
    made = options.device.threads if options.device else None
    return min(made or facts.threads, facts.threads)


@contextmanager
def a_home(artifact: Artifact) -> Iterator[Home]:
    """A place for the engine's files; what must not outlive the block is removed after it."""
    home = open_home(artifact.manifest.kit.id)
    try:
        watch_guardian(home)
        yield home
    finally:
        with uninterrupted():
            home.remove()
