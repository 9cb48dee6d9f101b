"""Models that predict the next token: made from transformers' configurations, and asked by transformers, in 32 bits."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
import vocabularies

GAIN = 1.5  # of projections: what goes in with a deviation of 1 comes out with this one
SPREAD = 0.2  # of norms and biases around what transformers begins with, which is 1 or 0
# What an expert has for itself; the rest is common to those of a layer, as in trained models: else rounding to 8 bits
# would be seen as much as a mistake, since it now and then has another expert asked.
OWN = 0.3
SEED = 20
torch.set_num_threads(1)  # so many small sums in turn are quicker by one


def make(family: dict[str, Any], folder: Path) -> None:
    """`unused`: places in the vocabulary beyond the tokenizer's; `named`: the architecture's name in config.json, where
    published models have another than transformers writes; `gain`: less where rounding would grow too much."""
    tokenizer = vocabularies.make(family["tokenizer"], folder)
    model_class = getattr(transformers, family["architecture"])
    settings = {"vocab_size": len(tokenizer) + family.get("unused", 0), **_marks(tokenizer), **family["config"]}
    torch.manual_seed(SEED)
    model = model_class(model_class.config_class(**settings)).float()
    spread(model, family.get("gain", GAIN))
    model.save_pretrained(folder)
    if "named" in family:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "architectures": [family["named"]]}), "utf-8")


def _marks(tokenizer: Any) -> dict[str, int | None]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


@torch.no_grad()
def spread(model: Any, gain: float) -> None:
    """Weights with which every part of a model shows in what it predicts: by transformers' own each token is as likely
    as the next, and biases are zero."""
    alike: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        drawn = torch.randn_like(weight)
        if ".experts." in name:
            drawn = (1 - OWN**2) ** 0.5 * _shared(model, name, weight, alike) + OWN * drawn
        if weight.ndim < 2 or "A_log" in name or "bias" in name:
            weight.add_(drawn * SPREAD)
        else:
            weight.copy_(drawn * gain / _inputs(model, name, weight) ** 0.5)


def _shared(model: Any, name: str, weight: Any, alike: dict[str, Any]) -> Any:
    """What the experts of a layer have in common: one module each, or all in one tensor."""
    if (key := re.sub(r"\.experts\.\d+\.", ".experts.", name)) != name:
        return alike.setdefault(key, torch.randn_like(weight))
    if weight.ndim == 3 or name.endswith("_bias"):
        return torch.randn_like(weight[0]).expand_as(weight)
    count = model.config.ffn_config.moe_num_experts
    return torch.randn_like(weight[: len(weight) // count]).repeat(count, 1)


def _inputs(model: Any, name: str, weight: Any) -> int:
    """How many numbers each output of a projection is a sum of; for the embedding, the numbers of a token."""
    parent = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
    if isinstance(parent, transformers.pytorch_utils.Conv1D):
        return weight.shape[0]
    if weight.ndim == 3 and not isinstance(parent, torch.nn.Conv1d):  # experts as one tensor, inputs before outputs
        return weight.shape[1]
    return weight.shape[-1]


def tokens(folder: Path, texts: list[str]) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text)["input_ids"] for text in texts]


@torch.no_grad()
def predict(folder: Path, prompts: list[list[int]], changes: dict[str, Any]) -> list[list[float]]:
    config = transformers.AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        _change(config, key.split("."), value)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    scores = [model(torch.tensor([ids]), use_cache=False).logits[0, -1] for ids in prompts]
    return [torch.log_softmax(one.double(), -1).tolist() for one in scores]


def _change(config: Any, path: list[str], value: Any) -> None:
    """Set what a path such as `rope_scaling.factor` leads to; it must be there."""
    *outer, last = path
    for name in outer:
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    before = config[last] if isinstance(config, dict) else getattr(config, last)
    assert before != value, f"{last} is {value!r} already"
    config.__setitem__(last, value) if isinstance(config, dict) else setattr(config, last, value)
