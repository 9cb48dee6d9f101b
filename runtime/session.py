"""An artifact with its engine starting: probe, rank, place, start; at the end stopped and cleaned up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import WEIGHTS, Manifest
from mkllm.runtime.artifact.reader import Artifact, open_artifact
from mkllm.runtime.engine.arguments import EngineOptions, arguments, asked
from mkllm.runtime.engine.log import Log, Logging
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.engine.placed import Weights
from mkllm.runtime.engine.supervisor import Plan, Supervisor
from mkllm.runtime.errors import EngineUnusable
from mkllm.runtime.hardware.fit import Fit, fit
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.rank import Ranking, rank
from mkllm.runtime.home import Home, open_home, prune, watch_guardian
from mkllm.runtime.own_file import own_file
from mkllm.runtime.signals import uninterrupted

SMALL_MODEL = 16 << 20


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
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.artifact.manifest


@contextmanager
def start_session(options: EngineOptions, kernel: str | None, logging: Logging) -> Iterator[Session]:
    """Start the engine of this program's own artifact; it ends with the block. `kernel`: this one and no other."""
    with open_artifact(own_file()) as artifact, _home() as home:
        facts = probe()
        ranking = rank(facts, artifact.manifest.backends, kernel)
        _expect_kernel(ranking, kernel)
        fitted = fit_model(artifact, facts, options)
        words = arguments(artifact.manifest, options, fitted, fit_threads(artifact, facts))
        weights = artifact.member(WEIGHTS)
        plan = Plan(
            choices=ranking.choices,
            placer=Modules(artifact, home),
            weights=Weights(artifact.fileno(), weights.offset, weights.size),
            arguments=words,
            log=Log(logging),
            frozen_home=home.frozen,
        )
        engine = Supervisor(plan)
        try:
            engine.start()
            prune(home)
            yield Session(artifact, home, facts, ranking, fitted, options.alias or artifact.manifest.name, engine)
        finally:
            with uninterrupted():
                engine.stop()


def _expect_kernel(ranking: Ranking, kernel: str | None) -> None:
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
    """How the model is fitted into this machine's memory. Raises TooLittleMemory."""
    manifest = artifact.manifest
    return fit(asked(manifest, options), manifest.model, artifact.member(WEIGHTS).size, facts)


def fit_threads(artifact: Artifact, facts: Facts) -> int:
    """One for a small model: to share out its work among threads takes longer than to do it."""
    return facts.threads if artifact.member(WEIGHTS).size >= SMALL_MODEL else 1


@contextmanager
def _home() -> Iterator[Home]:
    home = open_home()
    try:
        watch_guardian(home)
        yield home
    finally:
        with uninterrupted():
            home.remove()
