"""Tokenizers of the families, trained on sample.txt with the splitting rules of each (vocabularies.toml)."""

import tomllib
from pathlib import Path
from typing import Any

import sentencepiece
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as rules

HERE = Path(__file__).parent
KINDS = tomllib.loads((HERE / "vocabularies.toml").read_text("utf-8"))
SAMPLE = HERE / "sample.txt"
SENTENCEPIECE_SIZE, BYTES_SIZE = 800, 640  # pieces; without marks
NAMED = {
    "bytes": lambda: rules.ByteLevel(add_prefix_space=False, use_regex=False),
    "gpt2": lambda: rules.ByteLevel(add_prefix_space=False),
    "digits": lambda: rules.Digits(individual_digits=True),
    "numbers": lambda: rules.Digits(individual_digits=False),
    "marks": lambda: rules.Punctuation("contiguous"),
}


def make(kind: str, folder: Path) -> Any:
    """A tokenizer of that kind, written as transformers does, which is also given."""
    settings = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    made = _sentencepiece(settings, folder) if settings.get("kind") == "sentencepiece" else _bytes(settings)
    made.save_pretrained(folder)
    return made


def _sentencepiece(settings: dict[str, Any], folder: Path) -> Any:
    marks: dict[str, Any] = {"pad_id": -1}
    for number, (name, piece) in enumerate(settings["special"].items()):
        marks |= {f"{name}_id": number, f"{name}_piece": piece}
    sentencepiece.SentencePieceTrainer.train(
        input=str(SAMPLE),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=SENTENCEPIECE_SIZE,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=settings["spaced"],
        num_threads=1,
        minloglevel=2,
        **marks,
    )
    (folder / "tokenizer.vocab").unlink()
    words = {f"{name}_token": piece for name, piece in settings["special"].items()}
    if settings["spaced"]:
        words["add_prefix_space"] = True
    return getattr(transformers, settings["class"])(vocab_file=str(folder / "tokenizer.model"), **words)


def _bytes(settings: dict[str, Any]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    if "normalizer" in settings:
        tokenizer.normalizer = getattr(normalizers, settings["normalizer"])()
    tokenizer.pre_tokenizer = rules.Sequence([_rule(rule) for rule in settings["rules"]])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = rules.ByteLevel.alphabet()
    tokenizer.train(
        [str(SAMPLE)], trainers.BpeTrainer(vocab_size=BYTES_SIZE, initial_alphabet=alphabet, show_progress=False)
    )
    marks = list(dict.fromkeys(settings["special"].values()))
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    words = {f"{name}_token": mark for name, mark in settings["special"].items()}
    made = getattr(transformers, settings["class"])(tokenizer_object=tokenizer, **words)
    if settings.get("begins"):
        first = settings["special"]["bos"]
        pairs = [(first, made.convert_tokens_to_ids(first))]
        made._tokenizer.post_processor = processors.TemplateProcessing(f"{first}:0 $A:0", f"{first}:0 $A:0 $B:1", pairs)
    return made


def _rule(rule: str) -> Any:
    return NAMED[rule]() if rule in NAMED else rules.Split(Regex(rule), "isolated")
