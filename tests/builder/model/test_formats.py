"""Formats of prompts: what they write, and that the catalogue names no others but what models always have."""

import jinja2
import pytest

from mkllm.builder.model import catalog
from mkllm.builder.model.formats import formats, near, suggested

# Models that are asked in these have always had a template in their files.
ALWAYS_THERE = {"deepseek", "glm", "harmony"}
TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Bye"},
]


def rendered(name: str, messages: list[dict[str, str]], answer: bool = True) -> str:
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(formats()[name].template)
    return template.render(messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=answer)


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def test_alpaca() -> None:
    begin = (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    hello = "### Instruction:\nHello\n\n### Response:\n"
    assert rendered("alpaca", TURNS[:1]) == f"{begin}\n\n{hello}"
    assert rendered("alpaca", TURNS) == f"{begin}\n\n{hello}Hi.</s>\n\n{hello.replace('Hello', 'Bye')}"
    assert rendered("alpaca", [system("Be brief."), *TURNS[:1]]) == f"<s>Be brief.\n\n{hello}"
    assert rendered("alpaca", [system(""), *TURNS[:1]]) == f"<s>{hello}"


def test_vicuna() -> None:
    begin = (
        "<s>A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    )
    assert rendered("vicuna", TURNS) == f"{begin}USER: Hello ASSISTANT: Hi.</s>USER: Bye ASSISTANT:"
    assert rendered("vicuna", [system("Be brief."), *TURNS[:1]]) == "<s>Be brief. USER: Hello ASSISTANT:"
    assert rendered("vicuna", [system(""), *TURNS[:2]], False) == "<s>USER: Hello ASSISTANT: Hi.</s>"


@pytest.mark.parametrize("name", formats())
def test_all_say_everything_once(name: str) -> None:
    text = rendered(name, [system("Be brief."), *TURNS])
    assert all(text.count(said) == 1 for said in ("Be brief.", "Hello", "Hi.", "Bye")), text
    assert text.index("Be brief.") < text.index("Hello") < text.index("Hi.") < text.index("Bye")
    assert rendered(name, [*TURNS, {"role": "assistant", "content": ""}], False).count("Bye") == 1
    assert formats()[name].title and "\n" not in formats()[name].title


def test_the_catalogue_names_formats_that_there_are() -> None:
    named = {entry.template for entry in catalog.entries() if entry.template}
    assert named <= {*formats(), *ALWAYS_THERE} and {"alpaca", "vicuna", "llama2", "mistral"} <= named


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("lmsys_vicuna-7b-v1.5", "vicuna"),
        ("Llama-2-7B-Chat", "llama2"),
        ("Meta Llama 3.1 8B Instruct", "llama3"),
        ("Falcon3-1B", "falcon3"),
        ("deepseek-coder-6.7b", "deepseek-coder"),
        ("Phi-3.5-mini-instruct", "phi3"),
        ("CodeLlama-7b", None),
        ("llama-30b", None),
        ("Llama-33B", None),
        ("OpenLLaMA-3B", None),
        ("open_llama_3b_v2", None),
        ("LLaMA-2.7B", None),
        ("gpt2", None),
    ],
)
def test_a_models_name_suggests_one(title: str, name: str | None) -> None:
    assert suggested(title) == name


def test_the_nearest_names() -> None:
    assert near("Vicunna")[0] == "vicuna" and near("xyzzy") == []
