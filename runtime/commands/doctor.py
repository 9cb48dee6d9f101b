"""`doctor`: what was found on this machine, chosen, rejected and measured, and what would make it faster."""

import json
from dataclasses import replace

from mkllm.runtime.artifact.disk import file_system
from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.commands.examination import Examination, as_object
from mkllm.runtime.commands.findings import sections
from mkllm.runtime.commands.paragraphs import page, terminal_width
from mkllm.runtime.commands.tuning import Known, settings_of, tuning_of
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.advice import Advice, Case, advise
from mkllm.runtime.hardware.settings import Effort
from mkllm.runtime.home import Home
from mkllm.runtime.session import Survey, memory_repacked, opened, survey


def run(path: str, effort: Effort, as_json: bool) -> int:
    """Print the examination, for people or as one JSON object; `path` is how the file is called."""
    with opened() as (artifact, home):
        found, failure = _surveyed(artifact, home, EngineOptions(tune=effort))
        known = Known(None) if failure else tuning_of(found, effort)
        # Ranked once more: measuring may have shown that a kernel crashes, or that it does no longer.
        seen = _examined(path, found.ranked(found.plans.crashes()), failure, known)
    if as_json:
        print(json.dumps(as_object(seen), indent=2, ensure_ascii=False))
    else:
        print("\n".join(page(sections(seen), terminal_width())))
    return 0


def _surveyed(artifact: Artifact, home: Home, options: EngineOptions) -> tuple[Survey, TooLittleMemory | None]:
    """Also where the model does not fit into memory: that is what is to be said then."""
    try:
        return survey(artifact, home, options, None), None
    except TooLittleMemory as failure:
        return survey(artifact, home, replace(options, fit=False), None), failure


def _examined(path: str, found: Survey, failure: TooLittleMemory | None, known: Known) -> Examination:
    artifact = found.artifact
    return Examination(
        path=path,
        size=artifact.size,
        weights=found.weights.length,
        file_system=file_system(artifact.model()[0].path),
        manifest=artifact.manifest,
        facts=found.facts,
        fit=failure or found.fit,
        ranking=found.ranking,
        settled=found.settled,
        settings=settings_of(found, known.tuning),
        tuning=known.tuning,
        measured=known.measured,
        remembered=known.remembered,
        home=str(found.home.path),
        place=found.home.kind,
        advice=_advice(path, found, failure, known),
    )


def _advice(path: str, found: Survey, failure: TooLittleMemory | None, known: Known) -> tuple[Advice, ...]:
    manifest, crashes = found.artifact.manifest, found.plans.crashes()
    memory = manifest.model.memory
    return advise(
        Case(
            facts=found.facts,
            kernels=tuple(backend.name for backend in manifest.backends),
            runs=tuple(choice.name for choice in found.ranking.choices),
            weights=found.weights.length,
            memory_repacked=memory_repacked(found.artifact, found.fit, found.options),
            trained=manifest.model.context,
            context_bytes=2 * (memory.cache_keys + memory.cache_values) * manifest.model.context,
            fit=None if failure else found.fit,
            settled=found.settled,
            tuning=known.tuning,
            crashes={name: crashes[name] for name in crashes if _is_left_out(found, name)},
            remembers=found.home.kind in ("cache", "development"),
            file_system=file_system(found.artifact.model()[0].path),
        )
    )


def _is_left_out(found: Survey, name: str) -> bool:
    return any(rejection.name == name for rejection in found.ranking.rejections)
