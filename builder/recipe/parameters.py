"""Ollama's parameters and what they are here: an option of `mkllm build`, words for the engine, or nothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TRUE, FALSE = ("true", "1", "t"), ("false", "0", "f")


@dataclass(frozen=True)
class Option:
    """A number for the option `name` (a parameter of click's)."""

    name: str
    number: type[int] | type[float] = float


@dataclass(frozen=True)
class Words:
    """Words for the engine, of the value. `of` raises ValueError, with what the value has to be."""

    of: Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Nothing:
    """What the engine has nothing for; `unless`: values that ask for nothing, which need no word."""

    why: str
    unless: tuple[str, ...] = ()


def whole(text: str, least: int) -> int:
    """A whole number of at least `least`. Raises ValueError."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"a whole number from {least} on")
    return number


def is_true(text: str) -> bool:
    """Raises ValueError."""
    if text.lower() not in TRUE + FALSE:
        raise ValueError("true or false")
    return text.lower() in TRUE


def _counted(name: str, least: int) -> Words:
    return Words(lambda text: (name, str(whole(text, least))))


def _threads(text: str) -> Sequence[str]:
    number = whole(text, 0)
    return ("--threads", str(number)) if number else ()


def _layers(text: str) -> Sequence[str]:
    number = whole(text, -1)
    return ("--n-gpu-layers", str(number)) if number >= 0 else ()


def _positive(name: str) -> Words:
    def words(text: str) -> Sequence[str]:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise ValueError("a number above 0")
        return name, text

    return Words(words)


NO_KIND = "llama.cpp has nothing of the kind"
NO_MEANING = "it is left out, since llama.cpp decides that itself"
PARAMETERS: Mapping[str, Option | Words | Nothing] = {
    "num_ctx": Option("ctx_size", int),
    "temperature": Option("temperature"),
    "top_k": Option("top_k", int),
    "top_p": Option("top_p"),
    "min_p": Option("min_p"),
    "typical_p": Option("typical_p"),
    "seed": Option("seed", int),
    "num_predict": Option("n_predict", int),
    "repeat_penalty": Option("repeat_penalty"),
    "repeat_last_n": Option("repeat_last_n", int),
    "presence_penalty": Option("presence_penalty"),
    "frequency_penalty": Option("frequency_penalty"),
    "mirostat": Option("mirostat", int),
    "mirostat_eta": Option("mirostat_lr"),
    "mirostat_tau": Option("mirostat_ent"),
    "stop": Words(lambda text: ("--reverse-prompt", text)),
    "num_keep": _counted("--keep", -1),
    "num_thread": Words(_threads),
    "num_batch": _counted("--ubatch-size", 1),
    "num_gpu": Words(_layers),
    "main_gpu": _counted("--main-gpu", 0),
    "use_mmap": Words(lambda text: () if is_true(text) else ("--load-mode", "none")),
    "use_mlock": Words(lambda text: ("--load-mode", "mlock") if is_true(text) else ()),
    "numa": Words(lambda text: ("--numa", "distribute") if is_true(text) else ()),
    "draft_num_predict": Nothing(
        "a draft model is no part of a file; give --engine-arg for one that lies beside it", ("0",)
    ),
    "tfs_z": Nothing(NO_KIND, ("1", "1.0")),
    "penalize_newline": Nothing(NO_KIND, TRUE),
    "num_gqa": Nothing(NO_MEANING),
    "low_vram": Nothing(NO_MEANING, FALSE),
    "f16_kv": Nothing("caches are in f16 unless --engine-arg says --cache-type-k", TRUE),
    "logits_all": Nothing(NO_MEANING, FALSE),
    "vocab_only": Nothing("a file without weights would be of no use", FALSE),
    "rope_frequency_base": _positive("--rope-freq-base"),
    "rope_frequency_scale": _positive("--rope-freq-scale"),
}
