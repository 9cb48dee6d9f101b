"""The engine's command line, from the manifest's defaults and what the user asked for; starts nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.errors import RuntimeFailure

# The names of requests (and of the manifest) that are not the long option's with other dashes.
SAMPLING_OPTIONS = {"temperature": "--temp", "typical_p": "--typical", "n_predict": "--predict"}
SAMPLING = frozenset(
    "temperature top_k top_p min_p top_n_sigma typical_p seed n_predict repeat_penalty repeat_last_n presence_penalty "
    "frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n xtc_probability xtc_threshold "
    "dynatemp_range dynatemp_exp mirostat mirostat_lr mirostat_ent".split()
)
# What would take the engine out of the launch's hands.
OWN = {
    "--host": "--host before the --",
    "--port": "--port before the --",
    "--api-key": "--api-key before the --",
    "--api-key-file": "--api-key-file before the --",
    "-m": "the model of this file",
    "--model": "the model of this file",
    "--models-dir": "the model of this file",
    "-hf": "the model of this file",
    "--hf-repo": "the model of this file",
}


class WrongArgument(RuntimeFailure):
    """An argument for the engine that this program has to decide itself."""

    exit_code = 2


@dataclass(frozen=True)
class EngineOptions:
    """What the user asked of the engine; None and empty mean: not asked, the default holds.

    `sampling` has the names of llama-server's requests; `plain` are options passed on by their own names; `extra` are
    words passed on as they are.
    """

    context: int | None = None
    threads: int | None = None
    threads_batch: int | None = None
    parallel: int | None = None
    alias: str | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    plain: Sequence[tuple[str, str]] = ()
    extra: Sequence[str] = ()
    warm_up: bool = True


def arguments(manifest: Manifest, options: EngineOptions, context: int, threads: int) -> tuple[str, ...]:
    """All words after the program's name but the address. Raises WrongArgument for one that is not theirs to give."""
    words = ["serve", "-m", f"embedded:{manifest.model.member}", "--alias", options.alias or manifest.name]
    words += ["--ctx-size", str(context), "--threads", str(options.threads or threads)]
    words += ["--no-ui", "--offline", "--fit", "off"]
    # Repacking copies the weights, takes seconds to load and is slower for some of them; mapped they are ready at once,
    # and shared by all who run this file. `-- --repack` asks for it.
    words.append("--no-repack")
    if options.threads_batch:
        words += ["--threads-batch", str(options.threads_batch)]
    if options.parallel:
        words += ["--parallel", str(options.parallel)]
    for name, kind in (("--cache-type-k", options.cache_type_k), ("--cache-type-v", options.cache_type_v)):
        words += [name, kind] if kind != "f16" else []
    if not options.warm_up:
        words.append("--no-warmup")
    words += _sampling({**manifest.defaults.sampling, **options.sampling})
    words += _page(manifest.defaults.system_prompt)
    words += [word for pair in options.plain for word in pair]
    return (*words, *_checked(manifest.defaults.engine_args), *_checked(options.extra))


def _sampling(sampling: Mapping[str, float | int]) -> list[str]:
    words = []
    for name, value in sorted(sampling.items()):
        if name not in SAMPLING:
            raise WrongArgument(f"the sampling default {name!r} is not known to this engine: build the file without it")
        words += [SAMPLING_OPTIONS.get(name, "--" + name.replace("_", "-")), str(value)]
    return words


def _page(system_prompt: str | None) -> list[str]:
    """The chat page asks the engine for its settings; there it finds the maker's system prompt."""
    return ["--ui-config", json.dumps({"systemMessage": system_prompt})] if system_prompt else []


def _checked(words: Sequence[str]) -> tuple[str, ...]:
    for word in words:
        name = word.partition("=")[0]
        if name in OWN:
            raise WrongArgument(f"{name!r} is not for the engine of this file: use {OWN[name]}")
    return tuple(words)
