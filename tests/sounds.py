"""The part of a tiny Qwen2-Audio that hears, as transformers keeps it, and sounds; by the standard library alone."""

import io
import json
import math
import struct
import wave
from pathlib import Path

import checkpoints

WIDTH, FEED_FORWARD, HEADS, BINS, FRAMES, RATE = 32, 64, 4, 128, 1500, 16000
LAYERS = 3  # no fewer: the converter takes the numbers of convolutions for those of layers


def write(folder: Path, width: int) -> Path:
    """A folder whose projector makes `width` numbers for each position; it has nothing that speaks."""
    folder.mkdir(parents=True)
    audio = {
        "model_type": "qwen2_audio_encoder",
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "encoder_ffn_dim": FEED_FORWARD,
        "encoder_attention_heads": HEADS,
        "num_mel_bins": BINS,
    }
    config = {
        "architectures": ["Qwen2AudioForConditionalGeneration"],
        "audio_config": audio,
        "model_type": "qwen2_audio",
    }
    (folder / "config.json").write_text(json.dumps({**config, "text_config": {"hidden_size": width}}))
    (folder / "tokenizer.model").write_bytes(checkpoints.sentencepiece(checkpoints.PIECES))
    checkpoints.write_safetensors(folder / "model.safetensors", _tensors(width))
    return folder


def _tensors(width: int) -> dict[str, tuple[int, ...]]:
    linear = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    linear |= {"fc1": (FEED_FORWARD, WIDTH), "fc2": (WIDTH, FEED_FORWARD)}
    layer: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in linear.items()}
    layer |= {f"{name}.bias": size[:1] for name, size in linear.items() if not name.endswith("k_proj")}
    norms = ("self_attn_layer_norm", "final_layer_norm")
    layer |= {f"{name}.{kind}": (WIDTH,) for name in norms for kind in ("weight", "bias")}
    sizes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (WIDTH, BINS, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "embed_positions.weight": (FRAMES, WIDTH),
        "layer_norm.weight": (WIDTH,),
        "layer_norm.bias": (WIDTH,),
    }
    sizes |= {f"layers.{number}.{name}": size for number in range(LAYERS) for name, size in layer.items()}
    found = {f"audio_tower.{name}": size for name, size in sizes.items()}
    return found | {
        "multi_modal_projector.linear.weight": (width, WIDTH),
        "multi_modal_projector.linear.bias": (width,),
    }


def tone(hertz: float, seconds: float = 0.5) -> bytes:
    """A WAV file of one tone."""
    count = int(RATE * seconds)
    numbers = [int(20000 * math.sin(2 * math.pi * hertz * place / RATE)) for place in range(count)]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(struct.pack(f"<{count}h", *numbers))
    return file.getvalue()
