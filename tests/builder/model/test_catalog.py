"""The catalogue: what its data must have, and what short names stand for."""

import re
import tomllib

import pytest

from mkllm.builder.errors import ModelNotFound
from mkllm.builder.model import catalog, quant
from mkllm.builder.model.split import part_names

RAW = tomllib.loads(catalog.PATH.read_text(encoding="utf-8"))
FACTS = {"license", "context", "template"}
FAMILIES = {
    "bloom", "falcon", "llama", "mistral", "mixtral", "grok", "dbrx", "olmo2", "gpt2", "gpt-oss", "gemma", "phi",
    "qwen2", "qwen3", "qwen3moe", "deepseek", "command-r", "starcoder2", "bert",
}  # fmt: skip


def test_there_are_models_of_all_families_and_sizes() -> None:
    chat = [entry for entry in catalog.entries() if entry.kind == "chat"]
    assert len(chat) >= 40 and {entry.family for entry in catalog.entries()} >= FAMILIES
    sizes = [entry.billions for entry in chat if entry.billions]
    assert min(sizes) < 0.5 and max(sizes) > 100


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.alias)
def test_every_entry_says_where_its_facts_are_from(entry: catalog.Entry) -> None:
    raw = next(item for item in RAW["model"] if item["alias"] == entry.alias)
    assert set(entry.known_from) == FACTS & set(raw) and set(entry.known_from.values()) <= set(RAW["sources"])
    for name, file in entry.files.items():
        assert name == quant.normal(name) and file.known_from and set(file.known_from) <= set(RAW["sources"])
        assert file.name.endswith(".gguf") and ".." not in file.name
        assert file.sha256 is None or (re.fullmatch("[0-9a-f]{64}", file.sha256) and len(part_names(file.name)) == 1)
        assert quant.quantization(file.name) == name
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repository) and entry.default in entry.files
    assert entry.revision is None or re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) for name in entry.names)


def test_names_are_there_once() -> None:
    names = [name for entry in catalog.entries() for name in entry.names]
    assert len(names) == len(set(names)) and "demo" not in names


@pytest.mark.parametrize(
    ("text", "alias", "quantization"),
    [
        ("mistral-7b", "mistral-7b", "Q4_K_M"),
        ("mistral-7b-q4", "mistral-7b", "Q4_K_M"),
        ("Mistral-7B-Q4_K_S", "mistral-7b", "Q4_K_S"),
        ("mistral-7b-v0.3", "mistral-7b", "Q4_K_M"),
        ("mistral-7b-v0.3-q8_0", "mistral-7b", "Q8_0"),
        ("llama-3.1-8b:q5_k_m", "llama-3.1-8b", "Q5_K_M"),
        ("llama-3.1-8b:fp16", "llama-3.1-8b", "F16"),
        ("gpt-oss-20b", "gpt-oss-20b", "MXFP4"),
        ("gpt-oss-20b:q4", "gpt-oss-20b", "Q4"),  # which only the hub may have
        ("qwen3-4b-2507", "qwen3-4b-2507", "Q4_K_M"),
        ("qwen3-4b-2507:q8", "qwen3-4b-2507", "Q8_0"),
    ],
)
def test_short_names(text: str, alias: str, quantization: str) -> None:
    found = catalog.find(text)
    assert (found.entry.alias, found.quantization) == (alias, quantization)
    assert (found.file is None) == (quantization not in found.entry.files)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mistrl-7b", "there is no model 'mistrl-7b': did you mean 'mistral-7b' or "),
        ("llama3.2-3b", "did you mean 'llama-3.2-3b' or "),
        (
            "zzzz",
            "there is no model 'zzzz': `mkllm models WORD` searches the catalogue, hf:organisation/repository names",
        ),
        ("mistral", r"'mistral' may be any of 5 models: name one of mistral-7b, mistral-7b-v0.2, "),
        ("qwen3", "may be any of"),
        ("mistral-7b:best", "'mistral-7b:best' names no quantization: 'mistral-7b' has Q2_K, Q3_K_M, "),
    ],
)
def test_names_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ModelNotFound, match=why) as caught:
        catalog.find(text)
    assert str(caught.value).count("' or '") < catalog.NEAR


def test_every_word_of_a_query_counts() -> None:
    assert [entry.alias for entry in catalog.search("qwen coder 30b")] == ["qwen3-coder-30b"]
    assert {entry.license for entry in catalog.search("gemma-3 gemma")} == {"LicenseRef-Gemma"}
    assert catalog.search("no such thing") == [] and len(catalog.search("")) == len(catalog.entries())


def test_sizes_that_are_not_known_are_estimated() -> None:
    exact, rough = catalog.find("qwen3-8b").entry, catalog.find("llama-2-7b").entry
    assert exact.size("Q4_K_M") == (5027784512, True)
    size = rough.size("Q4_K_M")
    assert size and not size[1] and 3.9e9 < size[0] < 4.6e9


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("Mistral-7B-Instruct-v0.3.Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-fp16.gguf", "F16"),
        ("dir/model-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gemma-3-1b-it-UD-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model.gguf", None),
        ("Q4.gguf", "Q4"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ("UD-Q4_K_XL/m-UD-Q4_K_XL.gguf", "Q4_K_XL"),
    ],
)
def test_quantizations_in_names_of_files(file: str, kind: str | None) -> None:
    assert quant.quantization(file) == kind


def test_projectors_and_later_parts_are_no_models() -> None:
    files = ["mmproj-F16.gguf", "b-00002-of-00002.gguf", "b-00001-of-00002.gguf", "a.gguf", "imatrix.gguf", "README.md"]
    assert quant.models(files) == ["a.gguf", "b-00001-of-00002.gguf"]
