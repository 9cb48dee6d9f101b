"""The tokenizer: byte-level BPE, trained on the corpus, and split as llama.cpp's pre-tokenizer `qwen2` splits.

That pre-tokenizer gives every digit a token of its own, which arithmetic needs. The tokenizer does not normalise,
because llama.cpp does not either.
"""

from collections.abc import Iterable
from pathlib import Path

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from mkllm.builder.demo.messages import END, END_OF_TEXT, START

PRE = "qwen2"
SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = [END_OF_TEXT, START, END]
VOCABULARY = 2048


def assembled(model: models.BPE) -> Tokenizer:
    """The model with its way of splitting and joining; special tokens are not split."""
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A tokenizer whose special tokens come first."""
    tokenizer = assembled(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def number(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must be there."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(f"the tokenizer has no token {token!r}")
    return found


def load(file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(file))


def from_gguf(file: Path) -> Tokenizer:
    """The tokenizer that a GGUF of this project holds."""
    fields = GGUFReader(file).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    return assembled(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
