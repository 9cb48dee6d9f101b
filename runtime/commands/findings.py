"""What `doctor` says to people: the sections of an examination, in plain short sentences; measures nothing."""

from collections.abc import Iterator

from mkllm.runtime.amounts import counted, size
from mkllm.runtime.commands.examination import Compared, Examination, compared, features, when
from mkllm.runtime.commands.paragraphs import Line
from mkllm.runtime.errors import TooLittleMemory
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import TURN_ANSWER, TURN_PROMPT, Settings, Trial, Tuning

KIB = 1 << 10
WEIGHTS = {
    "mapped": "mapped where they lie in the file",
    "repacked": "repacked into memory",
    "prepacked": "prepacked, mapped where they lie in the file if it is for this kernel",
}
PLACES = {
    "cache": "what is measured is remembered",
    "development": "for this run only",
    "temporary": "temporary, so nothing is remembered",
    "memory": "in memory, so nothing is remembered",
}


def sections(seen: Examination) -> Iterator[tuple[str, Iterator[Line]]]:
    """The sections, each with its title."""
    yield "found", _found(seen)
    yield "chosen", _chosen(seen)
    yield "rejected", _rejected(seen)
    yield "measured", _measured(seen)
    yield "could be faster", _faster(seen)


def _found(seen: Examination) -> Iterator[Line]:
    facts, model = seen.facts, seen.manifest.model
    where = f" on {seen.file_system}" if seen.file_system else ""
    yield Line("file", f"{seen.path}, {size(seen.size)}{where}, {seen.manifest.created_by}, kit {seen.manifest.kit.id}")
    for fact in seen.manifest.beside:
        yield Line("", f"{fact.file} beside it, {size(fact.size)}")
    kind = f"{model.architecture}, {model.parameters:,} parameters, {model.quantization}"
    yield Line("model", f"{seen.manifest.name}: {kind}, {size(seen.weights)}")
    yield Line("processor", f"{facts.cpu_model}, {facts.machine}")
    has, lacks = features(facts)
    yield Line("features", f"has {', '.join(has) or 'none of those that kernels are made for'}")
    if lacks:
        yield Line("", f"lacks {', '.join(lacks)}")
    yield Line("cores", _cores(facts))
    yield Line("limits", _limits(facts))
    yield Line("NUMA", counted(facts.numa_nodes, "node"))
    if facts.caches:
        yield Line("caches", ", ".join(f"{level} {_binary(amount)}" for level, amount in facts.caches.items()))
    yield Line("memory", _memory(facts))
    yield Line("huge pages", facts.huge_pages)
    yield Line("home", f"{seen.home}, {PLACES[seen.place]}")
    for note in facts.notes:
        yield Line("note", note)


def _cores(facts: Facts) -> str:
    slow = facts.cores - facts.fast_cores if facts.fast_cores is not None else 0
    kinds = f", {slow} of them slow" if slow > 0 else ""
    smt = f", SMT: {facts.cpus} processors" if facts.cpus > facts.cores else ", no SMT"
    return f"{counted(facts.cores, 'core')}{kinds}{smt}"


def _limits(facts: Facts) -> str:
    total = f" of {facts.cpus_online}" if facts.cpus_online else ""
    quota = "no quota" if facts.cpu_quota is None else f"a quota of {facts.cpu_quota:g}"
    memory = "no limit of memory" if facts.memory_limit is None else f"{size(facts.memory_limit)} of memory"
    return f"{facts.cpus}{total} processors may be used; the cgroup has {quota} and {memory}"


def _memory(facts: Facts) -> str:
    if not facts.memory_total:
        return "unknown"
    return f"{size(facts.memory_available)} of {size(facts.memory_total)} are free"


def _binary(amount: int) -> str:
    """As caches are named: `32 MiB`."""
    return f"{amount // KIB // KIB} MiB" if amount >= KIB * KIB else f"{amount // KIB} KiB"


def _chosen(seen: Examination) -> Iterator[Line]:
    settings = seen.settings
    if settings is None:
        yield Line("kernel", "none runs on this machine")
    else:
        yield from _settings(seen, settings)
    if isinstance(seen.fit, TooLittleMemory):
        yield Line("memory", str(seen.fit))
    else:
        yield from _fit(seen, seen.fit)


def _settings(seen: Examination, settings: Settings) -> Iterator[Line]:
    titles = {choice.name: choice.title for choice in seen.ranking.choices}
    yield Line("kernel", f"{settings.kernel}: {titles.get(settings.kernel, '')}")
    yield Line("weights", WEIGHTS[settings.layout])
    yield Line("threads", f"{settings.threads} to generate, {settings.threads_batch} to read prompts")
    yield Line("attention", "without flash attention" if settings.flash is False else "flash attention")


def _fit(seen: Examination, fit: Fit) -> Iterator[Line]:
    batch = (seen.settings and seen.settings.batch) or fit.batch
    yield Line("batch", f"{batch} tokens at once")
    types = fit.type_k if fit.type_k == fit.type_v else f"{fit.type_k} and {fit.type_v}"
    yield Line("context", f"{fit.context} of {seen.manifest.model.context} tokens trained, caches in {types}")
    yield Line("memory", f"{size(seen.weights)} weights, {size(fit.caches)} caches, {size(fit.buffers)} buffers")
    for note in fit.notes:
        yield Line("note", note)


def _rejected(seen: Examination) -> Iterator[Line]:
    for rejection in seen.ranking.rejections:
        yield Line("kernel", f"{rejection.name}: {rejection.reason}")
    yield from _slower_trials(seen.tuning) if seen.tuning else ()
    tried = {trial.settings.kernel for trial in seen.tuning.trials} if seen.tuning else set()
    for choice in seen.ranking.choices:
        if choice.name not in tried and (seen.settings is None or choice.name != seen.settings.kernel):
            yield Line("kernel", f"{choice.name}: {choice.title}, ranked lower, not measured")


def _slower_trials(tuning: Tuning) -> Iterator[Line]:
    for found in compared(tuning):
        if not found.chosen:
            yield Line(found.trial.step, f"{found.trial.what}: {_speeds(found.trial)}{_slower(found)}")
    for name, sentence in tuning.crashed:
        yield Line("crash", f"{name}: {sentence}")


def _speeds(trial: Trial) -> str:
    """As precise as it is worth: `prompt 1234, generation 56.7 tokens/s`."""
    named = [("prompt", trial.prompt), ("generation", trial.generation)]
    return ", ".join(f"{name} {speed(value)}" for name, value in named if value) + " tokens/s"


def speed(value: float) -> str:
    """Three digits or more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _slower(found: Compared) -> str:
    if found.slower is None:
        return ""
    share = round(100 * abs(found.slower))
    is_turn = found.trial.prompt and found.trial.generation
    if share == 0:
        return "; as fast"
    if found.slower < 0:
        return f"; {share} % {'less time a turn' if is_turn else 'less time'}, which is too little to count"
    return f"; {share} % more time{' a turn' if is_turn else ''}"


def _measured(seen: Examination) -> Iterator[Line]:
    tuning = seen.tuning
    if tuning is None:
        yield Line("", "Nothing: kernel and threads are as they were ranked.")
        return
    yield Line("when", _when(seen, tuning))
    for found in compared(tuning):
        if found.chosen:
            yield Line(found.trial.step, f"{found.trial.what}: {_speeds(found.trial)}")
    for note in dict.fromkeys(tuning.notes):
        yield Line("note", note)
    if tuning.trials:
        yield Line("", f"A part of the model was measured. A turn reads {TURN_PROMPT} tokens, writes {TURN_ANSWER}.")


def _when(seen: Examination, tuning: Tuning) -> str:
    seconds = f"in {tuning.seconds:.1f} s"
    if seen.measured is not None:
        return f"{when(seen.measured)}, {seconds}, remembered {'since' if seen.remembered else 'from now on'}"
    if seen.place == "cache" and not tuning.lasting:
        return f"now, {seconds}; it is not good for the next launch"
    return f"now, {seconds}; it is not remembered"


def _faster(seen: Examination) -> Iterator[Line]:
    for advice in seen.advice:
        yield Line(advice.topic, advice.text)
    if not seen.advice:
        yield Line("", "Nothing that this program knows of.")
