"""A tiny Gemma 3, which takes pictures, as transformers keeps it, and pictures; by the standard library alone."""

import json
import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import checkpoints

BEGIN, END, SOFT = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
PIECES = [*checkpoints.PIECES, (BEGIN, 3), (END, 3), (SOFT, 3)]
SIZE, PATCH, TOKENS = 32, 8, 4  # of a picture, in pixels; what the model sees of it, in tokens


@dataclass(frozen=True)
class Eyes:
    """The part that looks at pictures."""

    layers: int = 2
    width: int = 32
    feed_forward: int = 64
    heads: int = 4


def number(piece: str) -> int:
    return next(place for place, (text, _) in enumerate(PIECES) if text == piece)


def write(folder: Path, width: int = 32) -> Path:
    """A model of random weights, `width` numbers for each position, in 32 bits."""
    shape, eyes = checkpoints.Shape(width=width), Eyes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(shape, eyes)))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_seq_length": TOKENS})
    )
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (folder / "tokenizer.model").write_bytes(checkpoints.sentencepiece(PIECES))
    checkpoints.write_safetensors(folder / "model.safetensors", _text(shape) | _vision(shape, eyes))
    return folder


def _config(shape: checkpoints.Shape, eyes: Eyes) -> dict[str, object]:
    head = shape.width // shape.heads
    text = checkpoints.config(shape, "gemma") | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": len(PIECES),
        "query_pre_attn_scalar": head,
        "sliding_window": 512,
        "rope_local_base_freq": 10000.0,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": eyes.width,
        "intermediate_size": eyes.feed_forward,
        "num_hidden_layers": eyes.layers,
        "num_attention_heads": eyes.heads,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": vision,
        "mm_tokens_per_image": TOKENS,
        "boi_token_index": number(BEGIN),
        "eoi_token_index": number(END),
        "image_token_index": number(SOFT),
    }


def _text(shape: checkpoints.Shape) -> dict[str, tuple[int, ...]]:
    sizes = checkpoints.tensors(shape) | {"model.embed_tokens.weight": (len(PIECES), shape.width)}
    for layer in range(shape.layers):
        norms = {"pre_feedforward_layernorm": shape.width, "post_feedforward_layernorm": shape.width}
        norms |= dict.fromkeys(("self_attn.q_norm", "self_attn.k_norm"), shape.width // shape.heads)
        sizes |= {f"model.layers.{layer}.{name}.weight": (width,) for name, width in norms.items()}
    return {f"language_model.{name}": size for name, size in sizes.items()}


def _vision(shape: checkpoints.Shape, eyes: Eyes) -> dict[str, tuple[int, ...]]:
    width, stem = eyes.width, "vision_tower.vision_model"
    linear = {f"self_attn.{name}_proj": (width, width) for name in "qkv"} | {"self_attn.out_proj": (width, width)}
    linear |= {"mlp.fc1": (eyes.feed_forward, width), "mlp.fc2": (width, eyes.feed_forward)}
    layer = {f"{name}.weight": size for name, size in linear.items()}
    layer |= {f"{name}.bias": size[:1] for name, size in linear.items()}
    layer |= {f"layer_norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}
    sizes: dict[str, tuple[int, ...]] = {
        f"{stem}.embeddings.patch_embedding.weight": (width, 3, PATCH, PATCH),
        f"{stem}.embeddings.patch_embedding.bias": (width,),
        f"{stem}.embeddings.position_embedding.weight": ((SIZE // PATCH) ** 2, width),
        f"{stem}.post_layernorm.weight": (width,),
        f"{stem}.post_layernorm.bias": (width,),
        "multi_modal_projector.mm_input_projection_weight": (width, shape.width),
        "multi_modal_projector.mm_soft_emb_norm.weight": (width,),
    }
    return sizes | {
        f"{stem}.encoder.layers.{number}.{name}": size for number in range(eyes.layers) for name, size in layer.items()
    }


def pixels(seed: int, side: int = SIZE) -> bytes:
    """A picture of that many pixels each way, three bytes each."""
    return random.Random(seed).randbytes(side * side * 3)


def png(data: bytes, side: int = SIZE) -> bytes:
    """It as a PNG file."""
    rows = b"".join(b"\0" + data[row * side * 3 : (row + 1) * side * 3] for row in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
