"""Grok-1, which transformers does not have: written after the definition that its weights were published with
(xai-org/grok-1, model.py), in 32 bits and with plain sums. Each function is a part of the model.

Where llama.cpp does something else: it makes the weights of the chosen experts add up to 1, which the definition does
not, but the norm that follows makes both the same. The cap on the router's scores that its converter writes, a later
Grok's, it does not apply.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import vocabularies
from decoders import GAIN, SEED, SPREAD
from safetensors.torch import load_file, save_file
from torch.nn import functional

NAMED = "transformer.decoder_layer.{}."
ATTENTION = "multi_head_attention."


def make(family: dict[str, Any], folder: Path) -> None:
    """A checkpoint with the names of the definition's parts, as the converter reads it."""
    tokenizer = vocabularies.make(family["tokenizer"], folder)
    config = {**family["config"], "vocab_size": len(tokenizer), "model_type": "grok-1"}
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Grok1ForCausalLM"]}))
    generator = torch.Generator().manual_seed(SEED)
    weights = {name: _random(shape, generator) for name, shape in _shapes(config).items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _random(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    found = torch.randn(shape, generator=generator)
    return 1 + SPREAD * found if len(shape) == 1 else found * GAIN / shape[-1] ** 0.5


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    narrow = width // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = {f"rms_norm{number}": (width,) for number in ("", "_1", "_2", "_3")}
    layer |= {ATTENTION + name: (size, width) for name, size in (("query", width), ("key", narrow), ("value", narrow))}
    layer |= {ATTENTION + "linear": (width, width), "router": (config["num_local_experts"], width)}
    for expert in range(config["num_local_experts"]):
        layer |= {f"moe.{expert}.{name}": (inner, width) for name in ("linear", "linear_v")}
        layer[f"moe.{expert}.linear_1"] = (width, inner)
    parts = {"transformer.in_out_embed": (config["vocab_size"], width), "transformer.rms_norm": (width,)}
    for number in range(config["num_hidden_layers"]):
        parts |= {NAMED.format(number) + name: shape for name, shape in layer.items()}
    return {f"{name}.weight": shape for name, shape in parts.items()}


@torch.no_grad()
def predict(folder: Path, prompts: list[list[int]], changes: dict[str, Any]) -> list[list[float]]:
    config = json.loads((folder / "config.json").read_text())
    assert all(config[key] != value for key, value in changes.items())
    weights = load_file(folder / "model.safetensors")
    return [_next(weights, {**config, **changes}, ids).tolist() for ids in prompts]


def _next(weights: dict[str, torch.Tensor], config: dict[str, Any], ids: list[int]) -> torch.Tensor:
    """Log-probabilities of the token after these. What reads tokens also writes them: one table for both."""
    table = weights["transformer.in_out_embed.weight"]
    stream = table[torch.tensor(ids)] * config["embedding_multiplier_scale"]
    for number in range(config["num_hidden_layers"]):
        start = NAMED.format(number)
        own = {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}
        stream = _layer(own, config, stream)
    last = _normed(stream[-1], weights["transformer.rms_norm.weight"], config)
    return torch.log_softmax((table @ last * config["output_multiplier_scale"]).double(), -1)


def _layer(own: dict[str, torch.Tensor], config: dict[str, Any], stream: torch.Tensor) -> torch.Tensor:
    """Both halves are normed before and after, and then added to what came in."""
    first, second, third, fourth = (own[f"rms_norm{number}.weight"] for number in ("", "_1", "_2", "_3"))
    stream = stream + _normed(_attention(own, config, _normed(stream, first, config)), second, config)
    return stream + _normed(_experts(own, config, _normed(stream, third, config)), fourth, config)


def _normed(values: torch.Tensor, scale: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    return scale * values * torch.rsqrt(values.square().mean(-1, keepdim=True) + config["rms_norm_eps"])


def _attention(own: dict[str, torch.Tensor], config: dict[str, Any], inputs: torch.Tensor) -> torch.Tensor:
    """Scores are capped softly; neighbouring heads of queries share one of keys and values."""
    heads, groups, cap = config["num_attention_heads"], config["num_key_value_heads"], config["attn_logit_softcapping"]
    query, key, value = (
        (inputs @ own[f"{ATTENTION}{name}.weight"].T).unflatten(-1, (count, -1)).transpose(0, 1)
        for name, count in (("query", heads), ("key", groups), ("value", groups))
    )
    query, key = _turned(query, config), _turned(key, config).repeat_interleave(heads // groups, 0)
    scores = query @ key.transpose(1, 2) * config["attn_output_multiplier"]
    capped = cap * torch.tanh(scores / cap)
    later = torch.ones_like(capped, dtype=torch.bool).triu(1)
    mixed = torch.softmax(capped.masked_fill(later, -math.inf), -1) @ value.repeat_interleave(heads // groups, 0)
    return mixed.transpose(0, 1).flatten(1) @ own[f"{ATTENTION}linear.weight"].T


def _turned(heads: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """Rotary positions: each number of the first half of a head is turned with its counterpart in the second."""
    count, size = heads.shape[1:]
    speeds = config["rope_theta"] ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(count), speeds)
    one, other = heads.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((one * cos - other * sin, other * cos + one * sin), -1)


def _experts(own: dict[str, torch.Tensor], config: dict[str, Any], inputs: torch.Tensor) -> torch.Tensor:
    """The likeliest experts, each with its probability among all of them."""
    chances, chosen = torch.softmax(inputs @ own["router.weight"].T, -1).topk(config["num_experts_per_tok"])
    found = []
    for values, weights, numbers in zip(inputs, chances, chosen, strict=True):
        made = [_expert(own, int(number), values) for number in numbers]
        found.append(sum(weight * one for weight, one in zip(weights, made, strict=True)))
    return torch.stack(found)


def _expert(own: dict[str, torch.Tensor], number: int, values: torch.Tensor) -> torch.Tensor:
    gate, up, down = (own[f"moe.{number}.{name}.weight"] for name in ("linear", "linear_v", "linear_1"))
    return down @ (functional.gelu(gate @ values, approximate="tanh") * (up @ values))
