"""`info`: what this file is, and what it would do on this machine; starts nothing."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.description import projector
from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.artifact.reader import Artifact, open_artifact
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.errors import PermissionFailure, TooLittleMemory, WeightsUnusable
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.rank import Ranking
from mkllm.runtime.session import fit_model, fit_threads, for_device, look_around, ranking_of


@dataclass(frozen=True)
class Seen:
    """All that there is to show; `size` is that of the whole file in bytes, `missing` what ails weights beside."""

    manifest: Manifest
    facts: Facts
    ranking: Ranking
    fit: Fit | TooLittleMemory
    threads: int
    size: int
    missing: str | None
    is_device: bool = False


def run(path: str, as_json: bool) -> int:
    """Print the facts, as a table or as one JSON object."""
    with open_artifact(path) as artifact:
        manifest, facts = artifact.manifest, look_around(artifact)
        options = for_device(artifact, facts, EngineOptions())
        fitted = _fit(artifact, facts, options)
        ranking = ranking_of(artifact, facts, fitted if isinstance(fitted, Fit) else None, options)
        threads = fit_threads(artifact, facts, options)
        seen = Seen(manifest, facts, ranking, fitted, threads, artifact.size, _missing(artifact), bool(options.device))
    if as_json:
        print(json.dumps(as_object(seen), indent=2, ensure_ascii=False))
    else:
        for name, value in rows(seen):
            print(f"{name:<10}{shown(value)}")
    return 0


def _missing(artifact: Artifact) -> str | None:
    try:
        artifact.model()
    except (WeightsUnusable, PermissionFailure) as failure:
        return str(failure)
    return None


def _fit(artifact: Artifact, facts: Facts, options: EngineOptions) -> Fit | TooLittleMemory:
    try:
        return fit_model(artifact, facts, options)
    except TooLittleMemory as failure:
        return failure


def version_line(path: str) -> str:
    """`demo, made by mkllm 0.1.0 with llama.cpp of llama-cpp-python 0.3.36 (kit 0123456789abcdef)`."""
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
    kit = manifest.kit
    return shown(f"{manifest.name}, made by {manifest.created_by} with llama-cpp-python {kit.llama_cpp} (kit {kit.id})")


def as_object(seen: Seen) -> dict[str, object]:
    """For programs: facts of the manifest, of the machine, and the choice."""
    manifest = seen.manifest
    return {
        "name": manifest.name,
        "size": seen.size,
        "created_by": manifest.created_by,
        "target": manifest.target,
        "kit": dataclasses.asdict(manifest.kit),
        "model": dataclasses.asdict(manifest.model),
        "defaults": dataclasses.asdict(manifest.defaults),
        "beside": [dataclasses.asdict(fact) for fact in manifest.beside],
        "missing": seen.missing,
        "projector": dataclasses.asdict(manifest.projector) if manifest.projector else None,
        "prepacked": dataclasses.asdict(manifest.prepacked) if manifest.prepacked else None,
        "provenance": dataclasses.asdict(manifest.provenance),
        "fit": {"error": str(seen.fit)} if isinstance(seen.fit, TooLittleMemory) else dataclasses.asdict(seen.fit),
        "threads": seen.threads,
        "machine": seen.facts.as_object(),
        **seen.ranking.as_object(),
    }


def rows(seen: Seen) -> Iterator[tuple[str, str]]:
    """For people: name and value of every line."""
    manifest, facts, ranking = seen.manifest, seen.facts, seen.ranking
    model, source = manifest.model, manifest.provenance
    weights = manifest.weights.size
    yield "file", f"{size(seen.size)}, {manifest.created_by}, {manifest.target}, kit {manifest.kit.id}"
    yield "model", f"{manifest.name}: {model.title or model.architecture}"
    yield "", f"{model.architecture}, {model.parameters:,} parameters, {model.quantization}, {size(weights)}"
    if other := purpose(model):
        yield "purpose", f"{other.noun} ({model.pooling}): ask {other.path}"
    yield "licence", model.license or "none named by the model"
    yield "source", " ".join(part for part in (source.reference, source.revision and f"at {source.revision}") if part)
    yield "", f"sha256 {source.sha256}"
    if manifest.prepacked:
        yield "weights", f"prepacked for {manifest.prepacked.kernel}"
    for line in projector(manifest, size):
        yield "projector", line
    if device := manifest.defaults.device:
        yield (
            "made for",
            device.name + ("" if seen.is_device else "; this machine is none, its settings do not hold"),
        )
    for fact in manifest.beside:
        yield "beside", f"{fact.file}, {size(fact.size)}"
    if seen.missing:
        yield "", seen.missing
    if isinstance(seen.fit, TooLittleMemory):
        yield "memory", str(seen.fit)
    else:
        yield "context", f"{seen.fit.context} of {model.context} tokens trained"
        caches, buffers = size(seen.fit.caches), size(seen.fit.buffers)
        known = f"{caches} caches, {buffers} buffers" if seen.fit.buffers else "nothing known of caches and buffers"
        yield "memory", f"{size(weights)} weights, {known}"
    if manifest.defaults.system_prompt:
        yield "system", manifest.defaults.system_prompt
    for message in manifest.defaults.messages:
        yield "example", f"{message.role}: {message.content}"
    yield "machine", f"{facts.cpu_model}, {_cores(facts)}, {facts.cpus} CPUs allowed, {_memory(facts)}"
    yield "threads", str(seen.threads)
    yield "kernel", ranking.choices[0].sentence if ranking.choices else "none runs on this machine"
    for choice in ranking.choices[1:]:
        yield "", f"{choice.name}: {choice.reason}"
    for rejection in ranking.rejections:
        yield "", f"{rejection.name}: {rejection.reason}"
    for note in (*facts.notes, *(seen.fit.notes if isinstance(seen.fit, Fit) else ())):
        yield "note", note


def _cores(facts: Facts) -> str:
    slow = facts.cores - facts.fast_cores if facts.fast_cores else 0
    return f"{facts.cores} cores" + (f" ({slow} of them slow)" if slow else "")


def _memory(facts: Facts) -> str:
    limit = f", limited to {size(facts.memory_limit)}" if facts.memory_limit else ""
    return f"{size(facts.memory_available)} of {size(facts.memory_total)} memory free{limit}"
