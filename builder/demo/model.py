"""A Llama model in plain PyTorch: RMS norms, rotary positions, grouped-query attention, SwiGLU, tied embeddings.

Rotary positions turn adjacent pairs of a head, as llama.cpp does for this architecture, so the export needs no
permutation. The attributes are named after llama.cpp's tensors.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; every row is a multiple of 32, as Q8_0 needs."""

    vocabulary: int = 2048
    width: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 4
    hidden: int = 384
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.width // self.heads


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on (batch, heads, time, head): adjacent values are a pair."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, kv = shape.width, shape.kv_heads * shape.head
        self.attn_norm = nn.RMSNorm(width, eps=shape.epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv, bias=False)
        self.attn_v = nn.Linear(width, kv, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=shape.epsilon)
        self.ffn_gate = nn.Linear(width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attend(self.attn_norm(x), cos, sin)
        y = self.ffn_norm(x)
        out: Tensor = x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return out

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, _ = x.shape
        s = self.shape
        q = self.attn_q(x).view(batch, time, s.heads, s.head).transpose(1, 2)
        k = self.attn_k(x).view(batch, time, s.kv_heads, s.head).transpose(1, 2)
        v = self.attn_v(x).view(batch, time, s.kv_heads, s.head).transpose(1, 2)
        repeat = s.heads // s.kv_heads
        k, v = turned(k, cos, sin).repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        mixed = F.scaled_dot_product_attention(turned(q, cos, sin), k, v, is_causal=True)
        out: Tensor = self.attn_output(mixed.transpose(1, 2).reshape(batch, time, s.width))
        return out


class Llama(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        frequency = shape.rope_base ** (-torch.arange(0, shape.head, 2) / shape.head)
        angle = torch.arange(shape.context)[:, None] * frequency
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.apply(self.initialise)
        for name, parameter in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.normal_(parameter, std=0.02 / (2 * shape.layers) ** 0.5)

    @staticmethod
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Logits for all positions of (batch, time), or only for those where the mask `keep` is true."""
        time = tokens.shape[1]
        x = self.token_embd(tokens)
        for layer in self.blk:
            x = layer(x, self.cos[:time], self.sin[:time])
        x = self.output_norm(x if keep is None else x[keep])
        return F.linear(x, self.token_embd.weight)

    @torch.inference_mode()
    def answer(self, tokens: list[int], end: int, limit: int = 120) -> list[int]:
        """The continuation at temperature 0, up to the end token."""
        out = list(tokens)
        while len(out) < min(len(tokens) + limit, self.shape.context):
            best = int(self(torch.tensor([out]))[0, -1].argmax())
            if best == end:
                break
            out.append(best)
        return out[len(tokens) :]
