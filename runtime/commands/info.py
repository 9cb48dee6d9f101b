"""`info`: what this file is, and what it would do on this machine; starts nothing."""

import dataclasses
import json
from collections.abc import Iterator

from mkllm.runtime.artifact.manifest import WEIGHTS, Manifest
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions
from mkllm.runtime.engine.context import Context
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.rank import Ranking, rank
from mkllm.runtime.progress import size
from mkllm.runtime.session import fit_context


def run(path: str, as_json: bool) -> int:
    """Print the facts, as a table or as one JSON object."""
    facts = probe()
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
        ranking = rank(facts, manifest.backends)
        context = fit_context(artifact, facts, EngineOptions())
        total = artifact.size
    if as_json:
        print(json.dumps(as_object(manifest, facts, ranking, context, total), indent=2, ensure_ascii=False))
    else:
        for name, value in rows(manifest, facts, ranking, context, total):
            print(f"{name:<10}{value}")
    return 0


def version_line(path: str) -> str:
    """`demo, made by mkllm 0.1.0 with llama.cpp of llama-cpp-python 0.3.36 (kit 0123456789abcdef)`."""
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
    kit = manifest.kit
    return f"{manifest.name}, made by {manifest.created_by} with llama-cpp-python {kit.llama_cpp} (kit {kit.id})"


def as_object(manifest: Manifest, facts: Facts, ranking: Ranking, context: Context, total: int) -> dict[str, object]:
    """For programs: facts of the manifest, of the machine, and the choice."""
    return {
        "name": manifest.name,
        "size": total,
        "created_by": manifest.created_by,
        "target": manifest.target,
        "kit": dataclasses.asdict(manifest.kit),
        "model": dataclasses.asdict(manifest.model),
        "defaults": dataclasses.asdict(manifest.defaults),
        "provenance": dataclasses.asdict(manifest.provenance),
        "context": {"tokens": context.tokens, "note": context.note},
        "threads": facts.threads,
        "machine": {**dataclasses.asdict(facts), "cpu_flags": sorted(facts.cpu_flags)},
        "kernels": [{"name": choice.name, "reason": choice.reason} for choice in ranking.choices],
        "rejected": [{"name": rejection.name, "reason": rejection.reason} for rejection in ranking.rejections],
    }


def rows(manifest: Manifest, facts: Facts, ranking: Ranking, context: Context, total: int) -> Iterator[tuple[str, str]]:
    """For people: name and value of every line."""
    model, source = manifest.model, manifest.provenance
    weights = next(member.size for member in manifest.members if member.name == WEIGHTS)
    yield "file", f"{size(total)}, {manifest.created_by}, {manifest.target}, kit {manifest.kit.id}"
    yield "model", f"{manifest.name}: {model.title or model.architecture}"
    yield "", f"{model.architecture}, {model.parameters:,} parameters, {model.quantization}, {size(weights)}"
    yield "licence", model.license or "none named by the model"
    yield "source", " ".join(part for part in (source.reference, source.revision and f"at {source.revision}") if part)
    yield "", f"sha256 {source.sha256}"
    yield "context", f"{context.tokens} of {model.context} tokens trained"
    if manifest.defaults.system_prompt:
        yield "system", manifest.defaults.system_prompt
    yield "machine", f"{facts.cpu_model}, {facts.cores} cores, {facts.cpus} CPUs allowed, {_memory(facts)}"
    yield "threads", str(facts.threads)
    yield "kernel", ranking.choices[0].sentence if ranking.choices else "none runs on this machine"
    for choice in ranking.choices[1:]:
        yield "", f"{choice.name}: {choice.reason}"
    for rejection in ranking.rejections:
        yield "", f"{rejection.name}: {rejection.reason}"
    for note in (*facts.notes, *([context.note] if context.note else [])):
        yield "note", note


def _memory(facts: Facts) -> str:
    limit = f", limited to {size(facts.memory_limit)}" if facts.memory_limit else ""
    return f"{size(facts.memory_available)} of {size(facts.memory_total)} memory free{limit}"
