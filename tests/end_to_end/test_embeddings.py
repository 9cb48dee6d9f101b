"""Embedding models made by transformers with random weights, BERT's kinds and one that could generate: converted, built
and served without any option, their tokens and vectors are transformers'.

Of `nox -s convert`.
"""

import math
import subprocess
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import splitting
from converting import Mkllm, transformers
from converting import converter as converter
from converting import run as run
from predictions import ask

from mkllm.builder.convert.environment import Environment

TEXTS = splitting.TEXTS[:21]
# What transformers has of ModernBERT is compiled, which takes packages that are not there, and changes no value.
PLAIN = """
import torch
torch.compile = lambda *words, **settings: lambda function: function
"""
# Vectors far from each other take larger weights than those that training begins with.
MAKE = (
    PLAIN
    + """
import json, sys, transformers
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
folder, values = Path(sys.argv[1]), json.loads(sys.argv[2])
kind, pooling = values["kind"], values["pooling"]
torch.manual_seed(1)
shape = dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, initializer_range=0.3)
named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

def framed(made):
    pairs = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", pairs)
    words = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    return words

if kind == "bert":
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=values["lowercase"])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(values["texts"], trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=named, show_progress=False))
    words = transformers.BertTokenizerFast(
        tokenizer_object=made, do_lower_case=values["lowercase"], **framed(made))
    model = transformers.BertModel(transformers.BertConfig(
        vocab_size=len(words), max_position_embeddings=256, **shape))
elif kind == "qwen3":
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(values["texts"], trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    made.post_processor = processors.TemplateProcessing("$A <|end|>", "$A $B <|end|>", [("<|end|>", 0)])
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>")
    shape["initializer_range"] = 0.2
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        vocab_size=len(words), max_position_embeddings=256, num_key_value_heads=2, head_dim=16,
        tie_word_embeddings=True, eos_token_id=0, **shape))
elif kind == "modernbert":
    made = Tokenizer(models.BPE())
    made.normalizer, made.decoder = normalizers.NFC(), decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(values["texts"], trainers.BpeTrainer(
        vocab_size=600, special_tokens=named, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **framed(made))
    # Published ones have the epsilon under two names, of which llama.cpp's converter reads the older.
    model = transformers.ModernBertModel(transformers.ModernBertConfig(
        vocab_size=len(words), max_position_embeddings=256, local_attention=16, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, cls_token_id=2, sep_token_id=3, reference_compile=False, layer_norm_eps=1e-5, **shape))
else:
    import sentencepiece
    (folder / "sample.txt").write_text("\\n".join(values["texts"]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "sample.txt"), model_prefix=str(folder / "words"), model_type="unigram", vocab_size=300,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2)
    words = transformers.XLMRobertaTokenizer(vocab_file=str(folder / "words.model"))
    for name in ("sample.txt", "words.vocab"):
        (folder / name).unlink()
    (folder / "words.model").rename(folder / "sentencepiece.bpe.model")
    words = transformers.XLMRobertaTokenizerFast.from_pretrained(folder)
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(
        vocab_size=len(words), max_position_embeddings=258, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, **shape))
with torch.no_grad():
    for name, weights in model.named_parameters():
        if weights.dim() == 1:
            weights.add_(torch.randn_like(weights) * 0.1)
        elif kind == "modernbert":
            weights.copy_(torch.randn_like(weights) / weights.shape[-1] ** 0.5)
words.save_pretrained(folder)
model.save_pretrained(folder)
if pooling:
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({
        "word_embedding_dimension": 64, "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_lasttoken": pooling == "last"}))
print(len(words))
"""
)
# Tokens and vectors of texts.
REFERENCE = (
    PLAIN
    + """
import json, sys, transformers
folder, values = sys.argv[1], json.loads(sys.argv[2])
words = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
tokens = [words.encode(text) for text in values["texts"]]
with torch.no_grad():
    found = [model(torch.tensor([ids])).last_hidden_state[0] for ids in tokens]
taken = {"cls": lambda one: one[0], "last": lambda one: one[-1]}.get(values["pooling"], lambda one: one.mean(0))
pooled = [taken(one).tolist() for one in found]
print(json.dumps([tokens, pooled]))
"""
)


@dataclass(frozen=True)
class Kind:
    """`pooling` is what the folder says, None: nothing, and so the mean."""

    kind: str
    pooling: str | None
    lowercase: bool = True

    def __str__(self) -> str:
        return f"{self.kind}-{self.pooling}{'' if self.lowercase else '-cased'}"

    @property
    def texts(self) -> list[str]:
        """Those that llama.cpp cuts into the same tokens: without accents, it takes Hangul for its first letters."""
        return [text for text in TEXTS if not (self.kind == "bert" and self.lowercase and "한" in text)]

    def make(self, converter: Environment, folder: Path) -> Path:
        folder.mkdir()
        values = {"kind": self.kind, "pooling": self.pooling, "lowercase": self.lowercase, "texts": TEXTS * 2}
        assert transformers(converter, MAKE, folder, values) > 100
        return folder


KINDS = [
    Kind("bert", "mean"),
    Kind("bert", "cls", lowercase=False),
    Kind("bert", None),
    Kind("modernbert", "cls"),
    Kind("xlm-roberta", "cls"),
    Kind("qwen3", "last"),
]


def distance(one: list[float], other: list[float]) -> float:
    """1 - the cosine of the angle between them."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def vectors(url: str, texts: list[str]) -> list[list[float]]:
    return [entry["embedding"] for entry in ask(url, "/v1/embeddings", input=texts)["data"]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_vectors_are_those_of_transformers(
    run: Mkllm, converter: Environment, serve: Any, tmp_path: Path, kind: Kind
) -> None:
    folder = kind.make(converter, tmp_path / "tiny")
    tokens, wanted = transformers(converter, REFERENCE, folder, {"texts": kind.texts, "pooling": kind.pooling})
    apart = [distance(one, other) for at, one in enumerate(wanted) for other in wanted[:at]]
    assert sorted(apart)[len(apart) // 2] > 0.05  # else equal vectors would prove nothing
    for words, most in ((), 1e-5), (("--quant", "Q8_0"), 1e-2):
        out = tmp_path / f"out{len(words)}"
        done = run("build", folder, *words, "-o", out)
        assert done.returncode == 0, done.stderr
        assert f"embedding model, asked at /v1/embeddings:  {out}" in done.stdout and "chat" not in done.stderr
        with serve(out) as server:
            found = [ask(server.url, "/tokenize", content=text, add_special=True)["tokens"] for text in kind.texts]
            assert found == tokens
            far = [distance(one, other) for one, other in zip(vectors(server.url, kind.texts), wanted, strict=True)]
            print(f"{kind} {words}: {max(far):.2e}")
            assert max(far) < most


@pytest.fixture(scope="module")
def embedder(run: Mkllm, converter: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("embedder")
    done = run("build", KINDS[0].make(converter, place / "tiny"), "-o", place / "out")
    assert done.returncode == 0, done.stderr
    yield place / "out"


def test_it_does_not_chat(embedder: Path, serve: Any) -> None:
    sentence = "this is an embedding model, which answers no prompts: start it and ask /v1/embeddings"
    for words in (["-p", "Hello"], ["chat"]):
        done = subprocess.run([embedder, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (49, "", f"out: {sentence}\n")
    with serve(embedder) as server, pytest.raises(urllib.error.HTTPError) as refused:
        ask(server.url, "/v1/chat/completions", messages=[{"role": "user", "content": "Hello"}])
    assert refused.value.code == 400 and sentence in refused.value.read().decode()


def test_texts_of_its_whole_context_are_taken_and_no_longer_ones(embedder: Path, serve: Any) -> None:
    with serve(embedder) as server:
        size = len(ask(server.url, "/v1/embeddings", input="a " * 250)["data"][0]["embedding"])
        assert size == 64
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server.url, "/v1/embeddings", input="a " * 300)
        assert refused.value.code in (400, 500) and "too large" in refused.value.read().decode()
