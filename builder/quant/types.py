"""The types that a whole model can be quantized to, by llama.cpp's names; knows no file."""

import difflib
from dataclasses import dataclass

from mkllm.builder.model.tables import tables

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # llama-quantize's own
ONLY_READ = {"NVFP4"}  # llama.cpp computes with it, but makes none
FLOATS = ("F32", "BF16", "F16")  # what is not quantized
# Best first by the KL divergence that llama.cpp's authors measured on an 8B model (tools/perplexity/README.md there),
# without and with an importance matrix; what is larger and no better than another one is left out.
LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
MATRIX_LADDER = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "IQ3_M", "IQ3_S"),
    *("IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),
)


@dataclass(frozen=True)
class QuantType:
    """A type of whole models; `number` is llama.cpp's (`LLAMA_FTYPE_…`)."""

    name: str
    number: int


class UnknownType(ValueError):
    """There is no such type; the message says which there are."""


def quant_types() -> dict[str, QuantType]:
    """All types by name, in llama.cpp's order."""
    named = {name: number for number, name in tables().file_types.items() if name not in ONLY_READ}
    return {name: QuantType(name, number) for name, number in named.items()}


def parse_type(text: str) -> QuantType:
    """The type of that name, in capitals or not. Raises UnknownType."""
    name = text.strip().upper()
    types = quant_types()
    if found := types.get(ALIASES.get(name, name)):
        return found
    near = difflib.get_close_matches(name, [*types, *ALIASES], 1, 0.5)
    hint = f"did you mean {near[0]}? All types: " if near else "choose one of "
    raise UnknownType(f"{text!r} is no type that llama.cpp quantizes to: {hint}{', '.join(types)}")


def is_quantized(name: str) -> bool:
    """Whether weights of that type (of a tensor or a model) have lost something already."""
    return name not in FLOATS and not name.startswith(("I8", "I16", "I32", "I64", "F64"))
