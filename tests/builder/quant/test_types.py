"""Names of types: llama.cpp's, in any case, with its aliases."""

import pytest

from mkllm.builder.model import quant
from mkllm.builder.model.tables import tables
from mkllm.builder.quant.types import ALIASES, LADDER, MATRIX_LADDER, UnknownType, is_quantized, parse_type, quant_types


def test_every_type_of_the_engine_but_one_that_it_only_reads() -> None:
    assert set(tables().file_types.values()) - set(quant_types()) == {"NVFP4"}


@pytest.mark.parametrize(
    ("text", "name", "number"), [("q4_k_m", "Q4_K_M", 15), ("Q5_K", "Q5_K_M", 17), ("F32", "F32", 0)]
)
def test_names(text: str, name: str, number: int) -> None:
    found = parse_type(text)
    assert (found.name, found.number) == (name, number)


@pytest.mark.parametrize(
    ("text", "words"), [("Q4_K_X", "did you mean Q4_K"), ("", "choose one of F32"), ("NVFP4", "NVFP4")]
)
def test_unknown_names(text: str, words: str) -> None:
    with pytest.raises(UnknownType, match=words):
        parse_type(text)


def test_names_are_those_of_the_engine_wherever_they_stand() -> None:
    known = {*tables().file_types.values(), "MXFP4"}  # as repositories call MXFP4_MOE
    assert len(set(quant.ORDER)) == len(quant.ORDER) and set(quant.ORDER) <= known and set(quant.BITS) <= known
    for alias, name in ALIASES.items():  # short names of models mean the same
        assert quant.choose(alias, quant_types()) == name


@pytest.mark.parametrize("kind", [*quant_types(), "NVFP4", "UD-Q4_K_XL", "fp16", "q5_k_m"])
def test_every_type_is_known_at_the_end_of_a_name(kind: str) -> None:
    for end in (f"-{kind}", f".{kind}", f"_{kind.lower()}"):
        assert quant.unquantized(f"llama-3.1-8b{end}") == "llama-3.1-8b"
    assert quant.unquantized(kind) == kind and quant.unquantized(f"{kind}-llama") == f"{kind}-llama"
    assert quant.unquantized(f"llama-q8_0-{kind}") == "llama-q8_0"


def test_ladders_name_types_once() -> None:
    for ladder in (LADDER, MATRIX_LADDER):
        assert len(set(ladder)) == len(ladder) and set(ladder) <= set(quant_types())


def test_what_is_quantized() -> None:
    assert [name for name in ("F32", "F16", "BF16", "Q8_0", "IQ1_S", "I32", "MXFP4_MOE") if is_quantized(name)] == [
        "Q8_0",
        "IQ1_S",
        "MXFP4_MOE",
    ]
