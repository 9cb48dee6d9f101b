"""The engine's command line, from the manifest's defaults and what the user asked for; starts nothing."""

import errno
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mkllm.runtime.artifact.engine_words import OWN, REASONS, may_be_options, option_name
from mkllm.runtime.artifact.footprint import BATCH, F16, SLOTS, TYPE_BYTES
from mkllm.runtime.artifact.manifest import PROJECTOR, WEIGHTS, Device, Manifest, Model
from mkllm.runtime.artifact.purpose import purpose
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.hardware.fit import PROMPTS, Asked, Fit
from mkllm.runtime.hardware.settings import Effort, Settings, Settled

# The names of requests (and of the manifest) that are not the long option's with other dashes.
SAMPLING_OPTIONS = {"temperature": "--temp", "typical_p": "--typical", "n_predict": "--predict"}
SAMPLING = frozenset(
    "temperature top_k top_p min_p top_n_sigma typical_p seed n_predict repeat_penalty repeat_last_n presence_penalty "
    "frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n xtc_probability xtc_threshold "
    "dynatemp_range dynatemp_exp mirostat mirostat_lr mirostat_ent".split()
)
# Options that name a file to read; some of them name several, with commas, or a scale behind each.
FILES = frozenset(
    "--chat-template-file --grammar-file -jf --json-schema-file -mm --mmproj -md --model-draft --spec-draft-model "
    "-lcs --lookup-cache-static --ui-config-file --webui-config-file --mcp-servers-config".split()
)
LISTS = frozenset({"--lora", "--control-vector"})
SCALED_LISTS = frozenset({"--lora-scaled", "--control-vector-scaled"})
EMBEDDED = "embedded:"
SHORT = {
    "-b": "--batch-size",
    "-ub": "--ubatch-size",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "-fa": "--flash-attn",
    "-np": "--parallel",
    "-nr": "--no-repack",
    "-t": "--threads",
    "-tb": "--threads-batch",
    "-dev": "--device",
    "-ngl": "--n-gpu-layers",
    "--gpu-layers": "--n-gpu-layers",
}
# What needs batches of their full size: inputs that are not split, and pictures.
WHOLE = frozenset("--embedding --embeddings --rerank --reranking -mm --mmproj".split())
# By these the user has a projector of his own, or none.
PROJECTORS = ("-mm", "--mmproj")
NO_PROJECTORS = ("--no-mmproj", "--no-mmproj-auto")
PLAIN_TYPES = frozenset({"f32", F16, "bf16"})
MUCH = 256 << 20
OFF = frozenset({"off", "disabled", "false", "0"})
LOGICAL_BATCH = 2048  # the engine's own
NO_WARMUP = "--no-warmup"


class WrongArgument(RuntimeFailure):
    """An argument for the engine that cannot be right, or that this program has to decide itself."""

    exit_code = 2


@dataclass(frozen=True)
class EngineOptions:
    """What the user asked of the engine; None and empty mean: not asked, the default holds.

    `sampling` has the names of llama-server's requests; `plain` are options passed on by their own names; `extra` are
    words passed on as they are. `brief`: for one answer, for which to warm up does not pay. `device`: what the maker
    set for the device that this machine is; it holds where he and the user say nothing else.
    """

    context: int | None = None
    threads: int | None = None
    threads_batch: int | None = None
    parallel: int | None = None
    alias: str | None = None
    fit: bool = True
    tune: Effort = "quick"
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    plain: Sequence[tuple[str, str]] = ()
    extra: Sequence[str] = ()
    brief: bool = False
    device: Device | None = None


def arguments(
    manifest: Manifest, options: EngineOptions, fit: Fit, settings: Settings, proven: bool = False
) -> tuple[str, ...]:
    """All words after the program's name but the address. Raises WrongArgument for one that is not theirs to give.

    `proven`: this kernel has computed this model here before, so it need not do so once more before it is ready.
    """
    words = ["serve", "-m", EMBEDDED + WEIGHTS, "--alias", options.alias or manifest.name]
    words += ["--ctx-size", str(fit.context), "--no-ui", "--offline", "--fit", "off", *_tuned(settings, fit)]
    given = _given(manifest, options)
    if _slots(_told(given)) != 1:
        # Told how many requests to serve at once, the engine would give each only its part of the context.
        words.append("--kv-unified")
    words += _fitted(fit)
    if options.brief or proven:
        words.append(NO_WARMUP)
    words += _sampling({**manifest.defaults.sampling, **options.sampling})
    words += _page(manifest.defaults.system_prompt)
    if template := manifest.defaults.chat_template:
        words += ["--chat-template", template]
    _expect_files(given)
    return (*words, *given)


def asked(manifest: Manifest, options: EngineOptions) -> Asked:
    """What maker and user ask that has to do with memory. Raises WrongArgument as `arguments` does."""
    words = _given(manifest, options)
    told = _told(words)
    names = {option_name(word) for word in words}
    return Asked(
        context=options.context,
        made=manifest.defaults.context or (options.device.context if options.device else None),
        longest=longest_context(words, manifest.model.context),
        type_k=_known(told.get("--cache-type-k")),
        type_v=_known(told.get("--cache-type-v")),
        batch=_batch(_number(told.get("--ubatch-size")), _number(told.get("--batch-size"))),
        slots=_slots(told),
        beside=sum(_size(file) for pair in pairwise(words) for file in _named_files(option_name(pair[0]), pair[1]))
        + sum(member.size for member in manifest.adapters)
        + projector_memory(manifest, options),
        whole=bool(names & WHOLE),
        fused=told.get("--flash-attn", "").lower() not in OFF,
        unwindowed="--swa-full" in names,
        checked=options.fit,
    )


def open_questions(manifest: Manifest, options: EngineOptions, fit: Fit, threads: int) -> Settled:
    """What maker and user leave open to be measured; `threads` is how many there would be otherwise."""
    words = _given(manifest, options)
    told = _told(words)
    names = {SHORT.get(option_name(word), option_name(word)) for word in words}
    count = options.threads or _number(told.get("--threads"))
    flash = told.get("--flash-attn", "").lower()
    return Settled(
        threads=count or threads,
        batch=fit.batch,
        threads_settled=count is not None,
        threads_batch=options.threads_batch or _number(told.get("--threads-batch")),
        repack=False if "--no-repack" in names else True if "--repack" in names else None,
        flash=flash not in OFF if flash else True if _needs_flash(manifest, told, fit) else None,
        batch_settled=bool(names & {"--batch-size", "--ubatch-size"} | names & WHOLE) or fit.batch != BATCH,
    )


def asked_of_gpus(manifest: Manifest, options: EngineOptions) -> tuple[int | None, tuple[str, ...] | None]:
    """How many layers are to be on GPUs, and on which, as maker and user tell the engine; None: they do not."""
    told = _told(_given(manifest, options))
    layers, devices = told.get("--n-gpu-layers", ""), told.get("--device")
    number = int(layers) if layers.isascii() and layers.isdecimal() else None
    return number, tuple(devices.split(",")) if devices is not None else None


def is_projecting(manifest: Manifest, options: EngineOptions) -> bool:
    """Whether the file's own projector is loaded: it has one, and neither maker nor user say otherwise."""
    return manifest.projector is not None and not _names_said(manifest, options) & {*PROJECTORS, *NO_PROJECTORS}


def projector_memory(manifest: Manifest, options: EngineOptions) -> int:
    """Bytes that the file's own projector takes where it is loaded."""
    return manifest.projector.memory if manifest.projector and is_projecting(manifest, options) else 0


def has_projector_beside(manifest: Manifest, options: EngineOptions) -> bool:
    """Whether maker or user name another file as the projector."""
    return bool(_names_said(manifest, options) & set(PROJECTORS))


def projector_bytes(manifest: Manifest, options: EngineOptions) -> int:
    """Bytes of the projector, which the engine puts on a GPU where it uses one; of a file of the user's its size."""
    words = _given(manifest, options)
    if "--no-mmproj-offload" in map(option_name, words):
        return 0
    if own := projector_memory(manifest, options):
        return own
    files = [value for name, value in pairwise(words) if option_name(name) in PROJECTORS]
    return _size(files[-1]) if files else 0


def _names_said(manifest: Manifest, options: EngineOptions) -> set[str]:
    """The options that maker and user give the engine themselves."""
    words = [*manifest.defaults.engine_args, *(name for name, _ in options.plain), *options.extra]
    return set(map(option_name, words))


def _needs_flash(manifest: Manifest, told: Mapping[str, str], fit: Fit) -> bool:
    """Quantized values are cached only with flash attention, and its buffers were what was fitted into the memory."""
    memory = manifest.model.memory
    more = (memory.compute_token_unfused - memory.compute_token) * fit.context
    return (told.get("--cache-type-v") or fit.type_v) not in PLAIN_TYPES or more > MUCH


def _given(manifest: Manifest, options: EngineOptions) -> list[str]:
    """What is passed on as it is: what holds for the device, the file's adapters, the maker's words, the user's."""
    plain = [word for pair in options.plain for word in pair]
    numbers = {"--threads": options.threads, "--threads-batch": options.threads_batch, "--parallel": options.parallel}
    asked = [word for name, number in numbers.items() if number for word in (name, str(number))]
    made = _checked(manifest.defaults.engine_args)
    own = [*_of_model(manifest.model), *_adapters(manifest), *_projector(manifest, options)]
    return [*_of_device(options.device), *own, *made, *asked, *plain, *_checked(options.extra)]


def _adapters(manifest: Manifest) -> list[str]:
    names = [EMBEDDED + member.name for member in manifest.adapters]
    return ["--lora", ",".join(names)] if names else []


def _of_model(model: Model) -> Sequence[str]:
    """For one that generates no text: what it makes of a text, and of how many tokens; a text is computed at once."""
    found = purpose(model)
    batch = str(min(model.context, LOGICAL_BATCH))
    return (*found.words, "--batch-size", batch, "--ubatch-size", batch) if found else ()


def _projector(manifest: Manifest, options: EngineOptions) -> list[str]:
    return [PROJECTORS[-1], EMBEDDED + PROJECTOR] if is_projecting(manifest, options) else []


def _of_device(device: Device | None) -> list[str]:
    """Not its threads: those are where measuring starts from."""
    if device is None:
        return []
    values = {"--cache-type-k": device.cache_type, "--cache-type-v": device.cache_type, "--ubatch-size": device.batch}
    return [word for name, value in values.items() if value for word in (name, str(value))]


def _told(words: Sequence[str]) -> dict[str, str]:
    """What follows each option, by its long name; the last one counts."""
    return {SHORT.get(option_name(name), option_name(name)): value for name, value in pairwise(words)}


def _slots(told: Mapping[str, str]) -> int:
    """How many requests the engine serves at the same time."""
    return _number(told.get("--parallel")) or SLOTS


def _tuned(settings: Settings, fit: Fit) -> list[str]:
    """Threads that wait lie down soon (waiting.h), so they are not let to do it for minutes as by default: `--poll`."""
    words = ["--threads", str(settings.threads), "--threads-batch", str(settings.threads_batch), "--poll", "1"]
    words.append("--repack" if settings.repack else "--no-repack")
    if settings.flash is not None and fit.type_v in PLAIN_TYPES:
        words += ["--flash-attn", "on" if settings.flash else "off"]
    if settings.batch and fit.batch == BATCH:
        words += ["--batch-size", str(max(settings.batch, LOGICAL_BATCH)), "--ubatch-size", str(settings.batch)]
    return words


def _fitted(fit: Fit) -> list[str]:
    words = []
    for name, kind in (("--cache-type-k", fit.type_k), ("--cache-type-v", fit.type_v)):
        words += [name, kind] if kind != F16 else []
    if fit.batch != BATCH:
        words += ["--ubatch-size", str(fit.batch)]
    if fit.prompts < PROMPTS:
        words += ["--cache-ram", str(fit.prompts >> 20)]
    return words


def _batch(physical: int | None, logical: int | None) -> int | None:
    """The physical batch that was asked for: never more than the logical one."""
    if physical is None:
        return logical if logical and logical < BATCH else None
    return min(physical, logical or LOGICAL_BATCH)


def _known(type: str | None) -> str | None:
    return type if type in TYPE_BYTES else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and int(text) else None


def _size(file: str) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return 0


def longest_context(words: Sequence[str], trained: int) -> int:
    """The longest context that the engine serves with these words, in tokens: `trained` unless they stretch it.

    Of RoPE's scalings it counts YaRN only, and it believes what it is told of how the model was trained.
    """
    given = {option_name(name): value for name, value in pairwise(words)}
    if told := re.search(r"\.context_length=int:(\d+)", given.get("--override-kv", "")):
        trained = int(told[1])
    if given.get("--rope-scaling") != "yarn":
        return trained
    try:
        scale = float(given["--rope-scale"] if "--rope-scale" in given else 1 / float(given["--rope-freq-scale"]))
        return int((int(given.get("--yarn-orig-ctx", 0)) or trained) * scale) or trained
    except (KeyError, ValueError, ArithmeticError):
        return trained


def _sampling(sampling: Mapping[str, float | int]) -> list[str]:
    words = []
    for name, value in sorted(sampling.items()):
        if name not in SAMPLING:
            raise WrongArgument(f"the sampling default {name!r} is not known to this engine: build the file without it")
        words += [SAMPLING_OPTIONS.get(name, "--" + name.replace("_", "-")), str(value)]
    return words


def _page(system_prompt: str | None) -> list[str]:
    """The chat page asks the engine for its settings; there it finds the maker's system prompt."""
    return ["--ui-config", json.dumps({"systemMessage": system_prompt}, ensure_ascii=False)] if system_prompt else []


def _checked(words: Sequence[str]) -> Sequence[str]:
    for name in map(option_name, may_be_options(words)):
        if instead := OWN.get(name):
            raise WrongArgument(f"{name!r} is not for the engine of this file: use {instead} before the --")
        if reason := REASONS.get(name):
            raise WrongArgument(f"{name!r} is not for the engine of this file: {reason}")
    return words


def _expect_files(words: Sequence[str]) -> None:
    """The engine would look at them late, some never, and say so in its own words."""
    for name, value in pairwise(words):
        for file in _named_files(option_name(name), value):
            if not file.startswith(EMBEDDED) and (why := _unreadable(file)):
                raise WrongArgument(f"the file {file!r} of {name} cannot be read ({why}): check its name")


def _named_files(name: str, value: str) -> list[str]:
    if name in FILES:
        return [value]
    if name not in LISTS | SCALED_LISTS or '"' in value:  # quotes keep commas together, which the engine understands
        return []
    files = value.split(",")
    return [file.rpartition(":")[0] for file in files if ":" in file] if name in SCALED_LISTS else files


def _unreadable(file: str) -> str | None:
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(mode):
        return os.strerror(errno.EISDIR)
    return None if os.access(file, os.R_OK) else os.strerror(errno.EACCES)
