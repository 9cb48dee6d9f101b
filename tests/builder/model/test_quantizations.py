"""Which files of a repository are quantizations of one model, and how large they are."""

import pytest

from mkllm.builder.model.quantizations import Quantization, models, of_same_model, quantizations

SIZES = {
    "Mistral-7B.Q4_K_M.gguf": 4370,
    "Mistral-7B.Q4_0.gguf": 4110,
    "Mistral-7B.IQ2_XXS.gguf": 2000,
    "mistral-7b.f16-00001-of-00002.gguf": 9000,
    "mistral-7b.f16-00002-of-00002.gguf": 5000,
    "q8/Mistral-7B-Q8_0.gguf": 7700,
    "Mistral-7B.Q6_K-00001-of-00003.gguf": 100,
    "mmproj-model-f16.gguf": 600,
    "Other-3B.Q4_0.gguf": 1800,
}


def test_the_largest_come_first_and_parts_count_together() -> None:
    found = quantizations(SIZES)
    assert found[0] == Quantization("mistral-7b.f16-00001-of-00002.gguf", 14000)
    assert [item.size for item in found] == sorted((item.size for item in found), reverse=True)
    names = [item.file for item in found]
    assert "mmproj-model-f16.gguf" not in names and "Mistral-7B.Q6_K-00001-of-00003.gguf" not in names  # no whole model


def test_those_of_one_model() -> None:
    same = of_same_model("Mistral-7B.Q4_K_M.gguf", quantizations(SIZES))
    assert [item.size for item in same] == [14000, 7700, 4370, 4110, 2000]
    assert len(models(quantizations(SIZES))) == 2  # whatever stands between the words


@pytest.mark.parametrize(
    "word",
    "Q4_0 q4_k_m Q2_K IQ4_NL IQ2_XXS UD-Q4_K_XL BF16 f16 FP16 F32 MXFP4 mxfp4_moe TQ1_0 Q4_0_4_8 NVFP4".split(),
)
def test_words_for_quantizations(word: str) -> None:
    found = [Quantization(f"m-{word}.gguf", 1), Quantization("m-Q8_0.gguf", 2)]
    assert of_same_model("m-Q8_0.gguf", found) == found


@pytest.mark.parametrize("word", ["Qwen3", "7B", "it", "v2", "Q4X", "xQ4_0"])
def test_words_for_other_things(word: str) -> None:
    found = [Quantization(f"m-{word}.gguf", 1), Quantization("m-Q8_0.gguf", 2)]
    assert of_same_model("m-Q8_0.gguf", found) == found[1:]
