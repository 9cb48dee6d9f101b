"""demo.gguf as it is shipped: its size, its facts, its tokenizer."""

from pathlib import Path

import gguf
import pytest

import mkllm.builder.demo
from mkllm.builder.demo import heldout, tokenizer

FOLDER = Path(mkllm.builder.demo.__file__).parent
FILE = FOLDER / "demo.gguf"


@pytest.fixture(scope="module")
def fields() -> dict[str, object]:
    return {name: field.contents() for name, field in gguf.GGUFReader(FILE).fields.items()}


def test_is_at_most_eight_megabytes() -> None:
    assert FILE.stat().st_size <= 8_000_000


def test_says_what_it_is(fields: dict[str, object]) -> None:
    assert fields["general.architecture"] == "llama"
    assert fields["general.name"] == "mkllm demo"
    assert fields["general.license"] == "Apache-2.0"
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_carries_the_template_of_this_folder(fields: dict[str, object]) -> None:
    assert fields["tokenizer.chat_template"] == (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")


def test_ends_a_turn_with_the_end_token(fields: dict[str, object]) -> None:
    tokens, end = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.eos_token_id"]
    assert isinstance(tokens, list) and isinstance(end, int)
    assert tokens[end] == "<|im_end|>"
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_its_tokenizer_brings_every_held_out_question_back() -> None:
    own = tokenizer.from_gguf(FILE)
    for prompt in heldout.prompts():
        assert own.decode(own.encode(prompt).ids) == prompt
