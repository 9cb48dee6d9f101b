"""llama.cpp's converter, which also takes vocabularies that it has never seen if they split text as known ones do.

Run by the converter's own Python, with one of its scripts and that script's words; imports nothing of mkllm.
The converter knows a tokenizer by what its vocabulary makes of one text. Where it does not, the rules by which the
tokenizer splits text are looked up in splitting.toml, and `TOLD` with their name is printed.
"""

import functools
import importlib
import json
import runpy
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("splitting.toml")
REFUSED = "BPE pre-tokenizer was not recognized"  # the converter's words, by which its refusal is known
TOLD, UNNORMALIZED = "mkllm: split by the rules of ", ", not normalized"
DIGITS = "0123456789"
PIECE = "##"  # how pieces of BERT's begin that are no beginnings of words
SHOWN = 60  # characters of a rule in a sentence


class UnknownRule(Exception):
    """A tokenizer that does what llama.cpp does not, or nobody knows whether it does: what that is."""


@dataclass(frozen=True)
class Rules:
    """`name` is llama.cpp's; the rest as the head of splitting.toml tells."""

    name: str
    steps: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    unmerged: str = ""
    differs: str = ""


# For pieces of words instead of merges. Of a letter without its accent llama.cpp takes the first part, of Hangul too.
BERT = Rules("bert-bge", (), differs="Korean, if accents are removed")


@functools.cache
def table() -> tuple[tuple[Rules, ...], Mapping[str, str]]:
    """The rules, and the names of patterns."""
    found = tomllib.loads(TABLE.read_text("utf-8"))
    rules = tuple(Rules(**{**entry, "steps": tuple(entry["steps"])}) for entry in found["rules"])
    return rules, {pattern: name for name, patterns in found["regex"].items() for pattern in patterns}


def recognise(tokenizer: Mapping[str, Any]) -> Rules:
    """The rules of a tokenizer, as tokenizer.json has it. Raises UnknownRule."""
    if tokenizer["model"].get("type") == "WordPiece":
        return _of_pieces(tokenizer)
    _expect_plain(tokenizer["model"])
    is_normalized(tokenizer)
    steps = _steps(tokenizer.get("pre_tokenizer"))
    fitting = [rules for rules in table()[0] if rules.steps == steps]
    if not fitting:
        known = {step for rules in table()[0] for step in rules.steps}
        odd = next((step for step in steps if step not in known), ", ".join(steps) or "no pre_tokenizer")
        raise UnknownRule(odd if len(odd) <= SHOWN else odd[:SHOWN] + "…")
    ignoring = bool(tokenizer["model"].get("ignore_merges"))
    rules = next((one for one in fitting if one.ignore_merges == ignoring), fitting[0])
    if rules.ignore_merges != ignoring and not _are_made_by_merges(tokenizer):
        raise UnknownRule(f"ignore_merges {str(ignoring).lower()} with {rules.steps[0]}")
    if rules.unmerged and any(CROSSES[rules.unmerged](*merge) for merge in _merges(tokenizer["model"])):
        raise UnknownRule(f"merges across {rules.unmerged}")
    return rules


def _of_pieces(tokenizer: Mapping[str, Any]) -> Rules:
    """BERT's own, of which llama.cpp has only one kind; whether letters become small is told in the file."""
    normalizer, steps = (tokenizer.get(key) or {} for key in ("normalizer", "pre_tokenizer"))
    for found, kind in ((normalizer, "BertNormalizer"), (steps, "BertPreTokenizer")):
        if found.get("type") != kind:
            raise UnknownRule(str(found.get("type", f"no {kind}")))
    if odd := [key for key in ("clean_text", "handle_chinese_chars") if not normalizer.get(key)]:
        raise UnknownRule(f"BertNormalizer without {odd[0]}")
    if (prefix := tokenizer["model"].get("continuing_subword_prefix")) != PIECE:
        raise UnknownRule(f"continuing_subword_prefix {prefix!r:.{SHOWN}}")
    return BERT


def is_normalized(tokenizer: Mapping[str, Any]) -> bool:
    """Whether it brings text into a form of Unicode's, which llama.cpp does not. Raises UnknownRule for others."""
    kinds = [entry["type"] for entry in _flat(tokenizer.get("normalizer"), "normalizers")]
    if kinds == ["BertNormalizer"] and tokenizer["model"]["type"] == "WordPiece":
        return False
    if odd := [kind for kind in kinds if kind != "NFC"]:
        raise UnknownRule(f"normalizer {odd[0]}")
    return bool(kinds)


def _flat(entry: Mapping[str, Any] | None, parts: str) -> Iterator[Mapping[str, Any]]:
    if entry is None:
        return
    if entry["type"] == "Sequence":
        for part in entry[parts]:
            yield from _flat(part, parts)
    else:
        yield entry


def _expect_plain(model: Mapping[str, Any]) -> None:
    if model.get("type") != "BPE":
        raise UnknownRule(f"a {model.get('type')} model")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise UnknownRule(key)


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    steps = [_step(entry) for entry in _flat(pre_tokenizer, "pretokenizers")]
    if steps[-2:] == ["split gpt-2", "bytes"]:
        steps[-2:] = ["words"]
    return tuple(steps)


def _step(entry: Mapping[str, Any]) -> str:
    """A step in the words of splitting.toml, or in tokenizer.json's where it has none."""
    kind = entry["type"]
    if kind == "ByteLevel" and not entry.get("add_prefix_space", True):
        return "words" if entry.get("use_regex", True) else "bytes"
    if kind == "ByteLevel":
        return "ByteLevel with add_prefix_space"
    if kind == "Digits":
        return "each digit" if entry.get("individual_digits") else "digits"
    if kind == "Punctuation" and entry.get("behavior") == "Contiguous":
        return "punctuation"
    if kind != "Split":
        return str(kind)
    pattern = str(entry["pattern"].get("Regex", "")).replace("\n", "\\n").replace("\r", "\\r")
    how = (entry.get("behavior"), bool(entry.get("invert")))
    name = table()[1].get(pattern)
    if name and (how == ("Isolated", False) or (how == ("Removed", True) and pattern.endswith(r"|\s+"))):
        return f"split {name}"  # such a pattern leaves nothing over that could be removed
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in pattern or str(entry["pattern"]))
    return f"Split {text} {how[0]}"


def _merges(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _are_made_by_merges(tokenizer: Mapping[str, Any]) -> bool:
    """Whether each token is what merges make of its text, so that it does not matter whether they are asked."""
    from tokenizers import Tokenizer

    model = {**tokenizer["model"], "ignore_merges": False}
    plain = Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model, **dict.fromkeys(OTHERS)})
    )
    added = {entry["content"] for entry in tokenizer.get("added_tokens", ())}
    return all(
        len(made.ids) == 1 for made in plain.encode_batch([word for word in model["vocab"] if word not in added])
    )


def _is_numeral(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "N"


def _leaves_numeral(left: str, right: str) -> bool:
    """Whether one part ends, or begins, with a numeral and the other does not: as letters that stand for bytes."""
    return _is_numeral(left[-1]) != _is_numeral(right[0])


def _joins_digits(left: str, right: str) -> bool:
    """Whether the first ends with a digit and the other begins with one."""
    return left[-1] in DIGITS and right[0] in DIGITS


CROSSES: Mapping[str, Callable[[str, str], bool]] = {"digits in bytes": _leaves_numeral, "each digit": _joins_digits}
OTHERS = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")


def _wrapped(original: Callable[[Any, Any], str], special: Callable[..., Any]) -> Callable[[Any, Any], str]:
    """The converter's method, which looks up the rules if it knows no better."""

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return original(self, tokenizer)
        except NotImplementedError as refusal:
            if REFUSED not in str(refusal):
                raise
        try:
            described = json.loads(tokenizer.backend_tokenizer.to_str())
            rules = recognise(described)
        except AttributeError:
            raise NotImplementedError(f"{REFUSED}: {type(tokenizer).__name__}") from None
        except UnknownRule as unknown:
            raise NotImplementedError(f"{REFUSED}: {unknown}") from None
        if rules.adds_bos and "bos" not in special(self.dir_model).add_special_token:
            self.gguf_writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
        print(TOLD + rules.name + (UNNORMALIZED if is_normalized(described) else ""), flush=True)
        return rules.name

    return get_vocab_base_pre


def main(script: str, words: list[str]) -> None:
    """Run a script of the converter's as if it had been called itself."""
    sys.argv = [script, *words]
    sys.path[0] = str(Path(script).parent)  # modules beside this file are none of the converter's
    conversion, gguf = importlib.import_module("conversion.base"), importlib.import_module("gguf")
    conversion.TextModel.get_vocab_base_pre = _wrapped(conversion.TextModel.get_vocab_base_pre, gguf.SpecialVocab)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
