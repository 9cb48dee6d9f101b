"""Tiny models as transformers keeps them, with random weights, written with the standard library alone.

`python tests/checkpoints.py FOLDER LAYERS WIDTH FEED_FORWARD VOCABULARY FILES` writes one of another shape, in BF16.
"""

import json
import math
import random
import struct
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SPECIAL = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
BYTES = [(f"<0x{number:02X}>", 6) for number in range(256)]
LETTERS = [("\u2581", 1), *((start + chr(97 + number), 1) for start in ("", "\u2581") for number in range(26))]
PIECES = [*SPECIAL, *BYTES, *LETTERS]
BLOCK = 1 << 20


@dataclass(frozen=True)
class Shape:
    layers: int = 2
    width: int = 32
    feed_forward: int = 64
    heads: int = 4
    groups: int = 2
    vocabulary: int = len(PIECES) + 8


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Names and shapes, which llama and gemma have in common."""
    width, head = shape.width, shape.width // shape.heads
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, width)}
    for layer in range(shape.layers):
        found |= {
            f"model.layers.{layer}.{name}.weight": size
            for name, size in {
                "self_attn.q_proj": (width, width),
                "self_attn.k_proj": (shape.groups * head, width),
                "self_attn.v_proj": (shape.groups * head, width),
                "self_attn.o_proj": (width, width),
                "mlp.gate_proj": (shape.feed_forward, width),
                "mlp.up_proj": (shape.feed_forward, width),
                "mlp.down_proj": (width, shape.feed_forward),
                "input_layernorm": (width,),
                "post_attention_layernorm": (width,),
            }.items()
        }
    return found | {"model.norm.weight": (width,)}


def config(shape: Shape, kind: str) -> dict[str, object]:
    """What transformers says of a model of that kind, `llama` or `gemma`."""
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "head_dim": shape.width // shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu" if kind == "llama" else "gelu_pytorch_tanh",
        "tie_word_embeddings": kind == "gemma",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write(folder: Path, kind: str = "llama", dtype: str = "F32", files: int = 1, shape: Shape = Shape()) -> Path:
    """A folder with a model of that kind in that many safetensors files."""
    sizes = tensors(shape)
    if kind == "llama":
        sizes["lm_head.weight"] = (shape.vocabulary, shape.width)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape, kind)))
    (folder / "tokenizer.model").write_bytes(sentencepiece(PIECES))
    names, index = list(sizes), {}
    share = -(-len(names) // files)
    for number in range(files):
        part = names[number * share : (number + 1) * share]
        name = "model.safetensors" if files == 1 else f"model-{number + 1:05}-of-{files:05}.safetensors"
        index |= dict.fromkeys(part, name)
        write_safetensors(folder / name, {tensor: sizes[tensor] for tensor in part}, dtype)
    if files > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write_adapter(folder: Path, shape: Shape = Shape(), rank: int = 4) -> Path:
    """A LoRA adapter as PEFT keeps it, for queries and values of a llama of that shape."""
    sizes: dict[str, tuple[int, ...]] = {}
    for layer in range(shape.layers):
        for name, width in (("q_proj", shape.width), ("v_proj", shape.groups * shape.width // shape.heads)):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            sizes |= {f"{stem}.lora_A.weight": (rank, shape.width), f"{stem}.lora_B.weight": (width, rank)}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", sizes)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def write_safetensors(path: Path, sizes: Mapping[str, tuple[int, ...]], dtype: str = "F32") -> None:
    """Random weights; those of norms are near 1."""
    width, header, at = {"F32": 4, "BF16": 2, "F16": 2}[dtype], {}, 0
    for name, size in sizes.items():
        end = at + math.prod(size) * width
        header[name] = {"dtype": dtype, "shape": list(size), "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, size in sizes.items():
            for block in _blocks(name, size, dtype):
                file.write(block)


def _blocks(name: str, size: tuple[int, ...], dtype: str) -> Iterable[bytes]:
    """The same for the same name, so that files do not matter; large ones repeat themselves."""
    source, left = random.Random(name), math.prod(size)
    middle, spread = (1.0, 0.1) if len(size) == 1 else (0.0, 0.5 / math.sqrt(min(size[-1], 64)))
    numbers = [source.gauss(middle, spread) for _ in range(min(left, BLOCK))]
    if dtype == "BF16":
        data = b"".join(struct.pack("<f", number)[2:] for number in numbers)
    else:
        data = struct.pack(f"<{len(numbers)}{'f' if dtype == 'F32' else 'e'}", *numbers)
    while left > 0:
        count = min(left, len(numbers))
        yield data[: count * len(data) // len(numbers)]
        left -= count


def sentencepiece(pieces: Iterable[tuple[str, int]]) -> bytes:
    """tokenizer.model of these pieces and their kinds (1 normal, 2 unknown, 3 control, 6 byte), with byte fallback."""
    model = b"".join(
        _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", -float(number)) + b"\x18" + bytes([kind]))
        for number, (text, kind) in enumerate(pieces)
    )
    trainer = b"\x18\x02" + _number(35 << 3) + b"\x01"  # BPE, byte_fallback
    normalizer = _field(1, b"identity") + b"\x18\x01\x20\x00\x28\x01"  # a space before, others as they are, escaped
    return model + _field(2, trainer) + _field(3, normalizer)


def _number(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(data)) + data


def write_pickle(path: Path, program: bytes, weights: bytes = b"") -> None:
    """A file in PyTorch's form."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", weights)
        archive.writestr("archive/version", "3\n")


if __name__ == "__main__":
    layers, width, feed_forward, vocabulary, count = map(int, sys.argv[2:])
    write(Path(sys.argv[1]), "llama", "BF16", count, Shape(layers, width, feed_forward, width // 64, 4, vocabulary))
