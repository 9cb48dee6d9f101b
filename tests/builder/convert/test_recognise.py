"""Tokenizers are known by the rules by which they split text, whatever their vocabulary; what is not certain is not."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import splitting
from splitting import in_bytes, pre_tokenizer, sequence, split, tokenizer

from mkllm.builder.convert import recognise
from mkllm.builder.convert.recognise import Rules, UnknownRule, table

RULES = table()[0]
PATTERN = {name: pattern for pattern, name in reversed(table()[1].items())}
LLAMA = sequence(split(PATTERN["llama-3"]), in_bytes())


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join((rules.name, *rules.steps[-2:])))
def test_each_row_knows_itself(rules: Rules) -> None:
    found = tokenizer(pre_tokenizer(rules), ignore_merges=rules.ignore_merges)
    assert recognise.recognise(found) == rules


def test_each_pattern_is_used_and_named_once() -> None:
    used = {step.removeprefix("split ") for rules in RULES for step in rules.steps if step.startswith("split ")}
    assert used | {"gpt-2"} == set(table()[1].values())
    assert len({(rules.steps, rules.ignore_merges) for rules in RULES}) == len(RULES)
    assert {rules.unmerged for rules in RULES} - {""} == set(recognise.CROSSES)


SAME = {
    "nested": (sequence(sequence(split(PATTERN["qwen"])), in_bytes()), "qwen2"),
    "trimmed": (sequence(split(PATTERN["qwen"]), {**in_bytes(), "trim_offsets": False}), "qwen2"),
    "removed": (sequence(split(PATTERN["llama-3"], "Removed", True), in_bytes()), "dbrx"),
    "by default": ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, "gpt-2"),
    "written out": (sequence(split(PATTERN["gpt-2"]), in_bytes()), "gpt-2"),
    "line ends as such": (
        sequence(*(split(PATTERN[name].replace("\\r", "\r").replace("\\n", "\n")) for name in
                   ("numbers", "han-and-kana", "deepseek-words")), in_bytes()),
        "deepseek-v3",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "name"), SAME.values(), ids=SAME)
def test_the_same_in_other_words(steps: dict[str, Any], name: str) -> None:
    assert recognise.recognise(tokenizer(steps)).name == name


def test_a_normal_form_is_told_other_changes_are_refused() -> None:
    nfc, none = {"type": "NFC"}, {"type": "Sequence", "normalizers": []}
    assert recognise.recognise(tokenizer(LLAMA, normalizer=nfc)).name == "dbrx"
    told = [recognise.is_normalized(tokenizer(LLAMA, normalizer=entry)) for entry in (None, none, nfc)]
    assert told == [False, False, True]
    for kind in ("NFKC", "Lowercase", "Replace", "Prepend"):
        with pytest.raises(UnknownRule, match=f"normalizer {kind}"):
            recognise.recognise(tokenizer(LLAMA, normalizer={"type": "Sequence", "normalizers": [{"type": kind}]}))


REFUSED = {
    "none": (tokenizer(None), "no pre_tokenizer"),
    "a space before": (tokenizer(in_bytes(True, True)), "ByteLevel with add_prefix_space"),
    "a space before, by default": (tokenizer({"type": "ByteLevel"}), "ByteLevel with add_prefix_space"),
    "another kind": (tokenizer({"type": "Metaspace", "replacement": "_"}), "Metaspace"),
    "another pattern": (tokenizer(sequence(split(r"\p{L}+"), in_bytes())), r"Split \p{L}+ Isolated"),
    "a text": (tokenizer(sequence({**split(""), "pattern": {"String": "a"}}, in_bytes())), "Split {'String': 'a'}"),
    "a long pattern": (tokenizer(sequence(split("a" * 500), in_bytes())), "Split " + "a" * 54 + "…"),
    "merged with what was before": (
        tokenizer(sequence(split(PATTERN["llama-3"], "MergedWithPrevious"), in_bytes())), "Split (?i:'s|'t"),
    "what is between is removed": (tokenizer(sequence(split(PATTERN["bloom"], "Removed", True), in_bytes())), "Split"),
    "single marks": (tokenizer(sequence({**splitting.STEPS["punctuation"], "behavior": "Isolated"})), "Punctuation"),
    "another order": (tokenizer(sequence(in_bytes(True), splitting.STEPS["each digit"])), "words, each digit"),
    "no bytes": (tokenizer(sequence(split(PATTERN["llama-3"]))), "split llama-3"),
    "a suffix": (tokenizer(LLAMA, end_of_word_suffix="</w>"), "end_of_word_suffix"),
    "byte fallback": (tokenizer(LLAMA, byte_fallback=True), "byte_fallback"),
    "chance": (tokenizer(LLAMA, dropout=0.1), "dropout"),
    "no BPE": (tokenizer(LLAMA, type="Unigram"), "a Unigram model"),
}  # fmt: skip


@pytest.mark.parametrize(("found", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_is_named(found: dict[str, Any], why: str) -> None:
    with pytest.raises(UnknownRule) as raised:
        recognise.recognise(found)
    assert str(raised.value).startswith(why)


def pieces(normalizer: dict[str, Any], prefix: str = "##", steps: str = "BertPreTokenizer") -> dict[str, Any]:
    plain = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix, "vocab": {}}
    return {"normalizer": {**plain, **normalizer}, "pre_tokenizer": {"type": steps}, "model": model}


def test_pieces_of_words() -> None:
    for lowercase in (True, False):
        found = pieces({"lowercase": lowercase})
        assert recognise.recognise(found) == recognise.BERT and not recognise.is_normalized(found)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (pieces({"type": "NFKC"}), "NFKC"),
        ({**pieces({}), "normalizer": None}, "no BertNormalizer"),
        (pieces({"clean_text": False}), "BertNormalizer without clean_text"),
        (pieces({"handle_chinese_chars": False}), "BertNormalizer without handle_chinese_chars"),
        (pieces({}, prefix="@@"), "continuing_subword_prefix '@@'"),
        (pieces({}, steps="Whitespace"), "Whitespace"),
    ],
)
def test_pieces_of_other_kinds(found: dict[str, Any], why: str) -> None:
    with pytest.raises(UnknownRule) as raised:
        recognise.recognise(found)
    assert str(raised.value) == why


VOCABULARY = {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}
QWEN = sequence(split(PATTERN["qwen"]), in_bytes())


def test_whole_words_matter_only_where_merges_do_not_make_them() -> None:
    made = tokenizer(QWEN, VOCABULARY, [["a", "b"], ["b", "c"], ["ab", "c"]], ignore_merges=True)
    assert recognise.recognise(made).name == "qwen2"
    other = tokenizer(QWEN, VOCABULARY, [["b", "c"], ["a", "b"], ["ab", "c"]], ignore_merges=True)
    with pytest.raises(UnknownRule, match="ignore_merges true with split qwen"):
        recognise.recognise(other)
    other["added_tokens"] = [{"id": 5, "content": "abc"}]  # which is cut out before anything is split
    assert recognise.recognise(other).name == "qwen2"
    names = [recognise.recognise(tokenizer(LLAMA, ignore_merges=value)).name for value in (True, False)]
    assert names == ["llama-bpe", "dbrx"]


FALCON, DEEPSEEK = (next(rules for rules in RULES if rules.unmerged == kind) for kind in recognise.CROSSES)


@pytest.mark.parametrize(
    ("rules", "merge", "harmless"),
    [
        (FALCON, ["a", "b"], True),
        (FALCON, ["1", "2"], True),
        (FALCON, ["Ġ", "1"], False),
        (FALCON, ["Ð", "¼"], False),  # both bytes of a letter, the second of which is written as a fraction
        (DEEPSEEK, ["a", "1"], True),
        (DEEPSEEK, ["1", "2"], False),
        (DEEPSEEK, ["a1", "2b"], False),
        (DEEPSEEK, ["1a", "b2"], True),
    ],
)
def test_steps_that_are_left_out_must_not_be_merged_across(rules: Rules, merge: list[str], harmless: bool) -> None:
    for form in (merge, " ".join(merge)):
        found = tokenizer(pre_tokenizer(rules), merges=[form])  # type: ignore[list-item]
        if harmless:
            assert recognise.recognise(found) == rules
        else:
            with pytest.raises(UnknownRule, match=f"merges across {rules.unmerged}"):
                recognise.recognise(found)


class Tokenizer:
    """What transformers makes of a tokenizer.json."""

    bos_token_id = 7

    def __init__(self, described: dict[str, Any], first: int = 1) -> None:
        self.backend_tokenizer = SimpleNamespace(to_str=lambda: json.dumps(described))
        self.first = first

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [self.first, 2]}


class Converter:
    """Keeps what is written about whether a beginning is added."""

    dir_model = Path("m")

    def __init__(self) -> None:
        self.written: list[bool] = []
        self.gguf_writer = SimpleNamespace(add_add_bos_token=self.written.append)


def asked(
    found: object, known: dict[str, bool] | None = None, refusal: str = recognise.REFUSED
) -> tuple[str, list[bool]]:
    def original(self: object, tokenizer: object) -> str:
        raise NotImplementedError(refusal)

    special = SimpleNamespace(add_special_token=known or {})
    self = Converter()
    return recognise._wrapped(original, lambda folder: special)(self, found), self.written


def test_the_converter_is_asked_first() -> None:
    method = recognise._wrapped(lambda self, tokenizer: "known", lambda folder: None)
    assert method(Converter(), Tokenizer(tokenizer(None))) == "known"
    with pytest.raises(NotImplementedError, match="^something else$"):
        asked(Tokenizer(tokenizer(LLAMA)), refusal="something else")


def test_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    llama = tokenizer(LLAMA, ignore_merges=True)
    assert asked(Tokenizer(llama)) == ("llama-bpe", [False])  # llama.cpp would add one
    assert asked(Tokenizer(llama, 7)) == ("llama-bpe", [True])
    assert asked(Tokenizer(llama), {"bos": True}) == ("llama-bpe", [])  # the converter itself writes it
    assert asked(Tokenizer(tokenizer(QWEN, normalizer={"type": "NFC"}))) == ("qwen2", [])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mkllm: split by the rules of llama-bpe"
    assert lines[-1] == "mkllm: split by the rules of qwen2, not normalized"


def test_it_refuses_in_the_converters_words() -> None:
    with pytest.raises(NotImplementedError, match="^BPE pre-tokenizer was not recognized: normalizer NFD$"):
        asked(Tokenizer(tokenizer(LLAMA, normalizer={"type": "NFD"})))
    with pytest.raises(NotImplementedError, match="^BPE pre-tokenizer was not recognized: SimpleNamespace$"):
        asked(SimpleNamespace())
