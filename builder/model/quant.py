"""Names of quantizations: in file names, and as people shorten them (`q4`); reads no file."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from mkllm.builder.model.split import NAME

# What stands for a whole class when only its bits are named: the usual one first. Which of two types is better is
# another question (`quant/types.py`), and so is which ones llama.cpp knows (`ggml.toml`).
ORDER = (
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "MXFP4",
    "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0",
    "Q3_K_M", "Q3_K_S", "Q3_K_L", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS",
    "Q2_K", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ2_0", "TQ1_0",
    "BF16", "F16", "F32",
)  # fmt: skip
# Of a whole file, with what is not of that type, where only the number of its parameters is known.
BITS = {
    "Q2_K": 3.3, "Q3_K_M": 3.9, "Q4_0": 4.6, "Q4_K_S": 4.6, "Q4_K_M": 4.9, "Q5_0": 5.6, "Q5_K_S": 5.6, "Q5_K_M": 5.7,
    "Q6_K": 6.6, "Q8_0": 8.5, "IQ3_XS": 3.3, "IQ4_XS": 4.3, "MXFP4": 4.6, "BF16": 16.0, "F16": 16.0, "F32": 32.0,
}  # fmt: skip
# `Q4_K_M`, `IQ2_XXS`, `UD-Q4_K_XL`, `BF16`, `mxfp4_moe`, between the other words of a name or at its end; the group is
# the name of the quantization.
WORD = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-)?(I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|FP?16|FP?32|(?:MX|NV)FP4)(?:_MOE)?(?![A-Za-z0-9])",
    re.I,
)
OTHERS = ("mmproj", "imatrix")  # GGUF files of a repository that are no models


def quantization(file: str) -> str | None:
    """What the name of a GGUF file says of its quantization; of several words the last."""
    match = NAME.fullmatch(PurePosixPath(file).name)
    found = WORD.findall(match["stem"] if match else file.removesuffix(".gguf").removesuffix(".GGUF"))
    return normal(found[-1]) if found else None


def unquantized(name: str) -> str:
    """A model's name without the word at its end that says its quantization, if there is one."""
    last = next(reversed([*WORD.finditer(name)]), None)
    stem = name[: last.start()].rstrip("-._ ") if last and last.end() == len(name) else ""
    return stem or name


def normal(text: str) -> str:
    """`q4_k_m` as `Q4_K_M`, `fp16` as `F16`."""
    return re.sub(r"^FP(16|32)$", r"F\1", text.upper().replace("-", "_"))


def is_quantization(text: str) -> bool:
    """Whether it is one of the known names, or the beginning of some, such as `q4`."""
    return any(_is_meant(text, name) for name in ORDER)


def choose(wanted: str, held: Iterable[str]) -> str | None:
    """Of the quantizations `held` the one that is meant: by its whole name, else the best one that begins so."""
    names = list(held)
    if normal(wanted) in names:
        return normal(wanted)
    return next((name for name in ORDER if name in names and _is_meant(wanted, name)), None)


def _is_meant(text: str, name: str) -> bool:
    short = normal(text)
    return name == short or name.startswith(f"{short}_")


def models(files: Iterable[str]) -> list[str]:
    """The models among the files of a repository, sorted; of a split one the first part."""
    found = [name for name in files if name.lower().endswith(".gguf")]
    return sorted(name for name in found if not is_other(name) and _is_first(name))


def is_other(name: str) -> bool:
    """Whether a GGUF file of a repository is no model, by its name."""
    return any(word in PurePosixPath(name).name.lower() for word in OTHERS)


def _is_first(name: str) -> bool:
    match = NAME.fullmatch(PurePosixPath(name).name)
    return not match or int(match["number"]) == 1
