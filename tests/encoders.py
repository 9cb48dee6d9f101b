"""Encoders that transformers makes, with random weights and a tokenizer trained on the spot: for vectors or scores."""

from dataclasses import asdict, dataclass
from pathlib import Path

import splitting
from converting import transformers

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

if kind in ("bert", "distilbert"):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=values["lowercase"])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(values["texts"], trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=named, show_progress=False))
    words = transformers.BertTokenizerFast(
        tokenizer_object=made, do_lower_case=values["lowercase"], **framed(made))
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=256, **shape)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=len(words), max_position_embeddings=256, dim=64, n_layers=4, n_heads=4, hidden_dim=128,
            initializer_range=0.3)
elif kind == "qwen3":
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(values["texts"], trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    made.post_processor = processors.TemplateProcessing("$A <|end|>", "$A $B <|end|>", [("<|end|>", 0)])
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>")
    shape["initializer_range"] = 0.2
    config = transformers.Qwen3Config(
        vocab_size=len(words), max_position_embeddings=256, num_key_value_heads=2, head_dim=16,
        tie_word_embeddings=True, eos_token_id=0, **shape)
elif kind == "modernbert":
    made = Tokenizer(models.BPE())
    made.normalizer, made.decoder = normalizers.NFC(), decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(values["texts"], trainers.BpeTrainer(
        vocab_size=600, special_tokens=named, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **framed(made))
    # Published ones have the epsilon under two names, of which llama.cpp's converter reads the older.
    config = transformers.ModernBertConfig(
        vocab_size=len(words), max_position_embeddings=256, local_attention=16, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, cls_token_id=2, sep_token_id=3, reference_compile=False, layer_norm_eps=1e-5, **shape)
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
    config = transformers.XLMRobertaConfig(
        vocab_size=len(words), max_position_embeddings=258, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, **shape)
if values["scores"]:
    config.num_labels = 1
    model = transformers.AutoModelForSequenceClassification.from_config(config)
else:
    model = (transformers.AutoModelForCausalLM if kind == "qwen3" else transformers.AutoModel).from_config(config)
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


@dataclass(frozen=True)
class Kind:
    """`pooling` is what the folder says, None: nothing, and so the mean. `scores`: one number of each pair of texts."""

    kind: str
    pooling: str | None = None
    lowercase: bool = True
    scores: bool = False

    def __str__(self) -> str:
        what = "scores" if self.scores else self.pooling
        return f"{self.kind}-{what}{'' if self.lowercase else '-cased'}"

    @property
    def texts(self) -> list[str]:
        """Those that llama.cpp cuts into the same tokens: without accents, it takes Hangul for its first letters."""
        return [text for text in TEXTS if not (self.kind == "bert" and self.lowercase and "한" in text)]

    def make(self, converter: Environment, folder: Path) -> Path:
        folder.mkdir()
        values = {**asdict(self), "texts": TEXTS * 2}
        assert transformers(converter, MAKE, folder, values) > 100
        return folder
