"""Tokenizers that llama.cpp has never seen, trained on the spot: by each of the known rules for splitting text, a model
is converted, built and served, and its tokens are those of transformers.

Of `nox -s convert`.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import splitting
from converting import Mkllm, transformers
from converting import converter as converter
from converting import run as run
from predictions import ask
from splitting import TEXTS, pre_tokenizer

from mkllm.builder.convert.environment import Environment
from mkllm.builder.convert.recognise import Rules, table

RULES = table()[0]
SIZE = 900  # tokens
# A vocabulary trained by the rules of a tokenizer.json without one, with or without a token at the beginning.
TRAIN = """
import json, sys
from tokenizers import Tokenizer, decoders, processors, trainers
values = json.loads(sys.argv[2])
made = Tokenizer.from_str(json.dumps(values["rules"]))
named = ["<|end|>", "<|begin|>"]
alphabet = __import__("tokenizers").pre_tokenizers.ByteLevel.alphabet()
made.train_from_iterator(values["texts"] * 4, trainers.BpeTrainer(
    vocab_size=values["size"], special_tokens=named, initial_alphabet=alphabet, show_progress=False))
made.decoder = decoders.ByteLevel()
if values["begins"]:
    made.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 1)])
made.save(sys.argv[1] + "/tokenizer.json")
settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|begin|>"}
open(sys.argv[1] + "/tokenizer_config.json", "w").write(json.dumps(settings))
print(made.get_vocab_size())
"""
TOKENS = """
import json, sys, transformers
words = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.loads(sys.argv[2])
print(json.dumps([[words.encode(text, add_special_tokens=added) for text in texts] for added in (False, True)]))
"""
Model = Callable[..., Path]


@pytest.fixture
def model(converter: Environment, tmp_path: Path) -> Model:
    """`model(tokenizer.json without a vocabulary, begins=…)`: a tiny llama with a vocabulary of its own."""

    def made(rules: dict[str, Any], begins: bool = False, texts: list[str] = TEXTS) -> Path:
        folder = tmp_path / f"tiny-{os.getpid()}"  # what is in the cache is not converted again, and nothing told
        folder.mkdir()
        values = {"rules": rules, "texts": texts, "size": SIZE, "begins": begins}
        count = transformers(converter, TRAIN, folder, values)
        checkpoints.write(folder, shape=checkpoints.Shape(vocabulary=count))
        (folder / "tokenizer.model").unlink()
        return folder

    return made


def tokens(url: str, texts: list[str], added: bool) -> list[list[int]]:
    return [ask(url, "/tokenize", content=text, add_special=added)["tokens"] for text in texts]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join((rules.name, *rules.steps[-2:])))
def test_tokens_are_those_of_transformers(
    run: Mkllm,
    converter: Environment,
    serve: Any,
    model: Model,
    tmp_path: Path,
    rules: Rules,
) -> None:
    described = splitting.tokenizer(pre_tokenizer(rules), ignore_merges=rules.ignore_merges)
    folder = model(described, begins=rules.name in ("llama-bpe", "gpt-2"))
    done = run("build", folder, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = f"note: the vocabulary of {str(folder)!r} is unknown to llama.cpp, but it splits text by the rules of "
    assert f"{told}{rules.name}\n" in done.stderr
    assert (f"other tokens in llama.cpp for {rules.differs}\n" in done.stderr) == bool(rules.differs)
    plain, whole = transformers(converter, TOKENS, folder, TEXTS)
    assert sum(map(len, plain)) < 0.6 * sum(len(text.encode()) for text in TEXTS)  # there are merges, which show splits
    assert (whole != plain) == (rules.name in ("llama-bpe", "gpt-2"))
    with serve(tmp_path / "out") as server:
        assert tokens(server.url, TEXTS, False) == plain
        assert tokens(server.url, TEXTS, True) == whole


def test_texts_that_llama_cpp_splits_in_other_places(
    run: Mkllm, converter: Environment, serve: Any, model: Model, tmp_path: Path
) -> None:
    """What the table says of gpt-4o: when llama.cpp has learnt it, this fails, and the table says less."""
    rules = next(rules for rules in RULES if rules.name == "gpt-4o")
    others = ["cafe\u0301 re\u0301sume\u0301 ", "É A ÉCOLE FRANÇAISE", "приветМир приветМир"]
    folder = model(splitting.tokenizer(pre_tokenizer(rules)), texts=[*TEXTS, *others * 4])
    assert run("build", folder, "-o", tmp_path / "out").returncode == 0
    ((*wanted,), _) = transformers(converter, TOKENS, folder, others)
    with serve(tmp_path / "out") as server:
        found = tokens(server.url, others, False)
    assert [ours == theirs for ours, theirs in zip(found, wanted, strict=True)] == [False, False, True]


REFUSED = {
    "a space before": (splitting.in_bytes(True, True), "ByteLevel with add_prefix_space"),
    "another pattern": (splitting.sequence(splitting.split(r"\\p{L}+|\\s+"), splitting.in_bytes()), "Split"),
}


@pytest.mark.parametrize(("steps", "rule"), REFUSED.values(), ids=REFUSED)
def test_a_rule_that_is_not_known_is_named(
    run: Mkllm, model: Model, tmp_path: Path, steps: dict[str, Any], rule: str
) -> None:
    folder = model(splitting.tokenizer(steps))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # transformers takes this from the settings alone.
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "add_prefix_space": rule.endswith("space")}))
    done = run("build", folder, "-o", tmp_path / "out")
    lines = [line for line in done.stderr.splitlines() if line.startswith("mkllm: ")]
    assert done.returncode == 51 and len(lines) == 1, done.stderr
    assert f"its tokenizer has a rule that llama.cpp does not know ({rule}" in lines[0]
    assert not (tmp_path / "out").exists()
