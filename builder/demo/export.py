"""Writes the trained model as a Q8_0 GGUF: `python -m mkllm.builder.demo.export --from DIR -o demo.gguf`.

The tensors have llama.cpp's names and order of values already; norms stay in 32 bits. The same model gives the same
bytes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from mkllm.builder.demo import tokenizer as bpe
from mkllm.builder.demo.messages import END, END_OF_TEXT
from mkllm.builder.demo.model import Shape

TEMPLATE = Path(__file__).parent / "chat_template.jinja"
NAME = "mkllm demo"
DESCRIPTION = (
    "A small chat model of the mkllm project. It explains mkllm and its commands, makes small talk, does arithmetic on "
    "small numbers, and says politely what it cannot know. Trained from scratch on a text that the project generates."
)
TEMPERATURE = 0.1


def write(source: Path, target: Path) -> None:
    """`source` holds `tokenizer.json` and `model.pt`."""
    tokenizer = bpe.load(source / "tokenizer.json")
    saved: dict[str, Any] = torch.load(source / "model.pt", weights_only=True)
    shape = Shape(**json.loads(saved["shape"]))
    writer = gguf.GGUFWriter(target, "llama")
    add_facts(writer)
    add_shape(writer, shape)
    add_tokenizer(writer, tokenizer)
    add_tensors(writer, saved["weights"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_facts(writer: gguf.GGUFWriter) -> None:
    writer.add_type("model")
    writer.add_name(NAME)
    writer.add_basename("demo")
    writer.add_author("the mkllm project")
    writer.add_description(DESCRIPTION)
    writer.add_license("Apache-2.0")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation"])
    # So small a model knows one right answer to a question; llama.cpp takes this as its default.
    writer.add_float32("general.sampling.temp", TEMPERATURE)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head)
    writer.add_vocab_size(shape.vocabulary)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(bpe.PRE)
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in bpe.SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(bpe.number(tokenizer, END))
    writer.add_eot_token_id(bpe.number(tokenizer, END))
    writer.add_bos_token_id(bpe.number(tokenizer, END_OF_TEXT))
    writer.add_pad_token_id(bpe.number(tokenizer, END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))


def add_tensors(writer: gguf.GGUFWriter, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        values = tensor.to(torch.float32).numpy()
        if values.ndim == 1:
            writer.add_tensor(name, values)
            continue
        packed = gguf.quantize(np.ascontiguousarray(values), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("-o", dest="target", type=Path, required=True)
    options = parser.parse_args()
    write(options.source, options.target)
    print(f"{options.target}: {options.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
