"""The sizes of a model that say how much memory it will need, out of its GGUF header and tensors."""

from collections.abc import Sequence

from mkllm.builder.model.gguf import Gguf, Tensor
from mkllm.runtime.artifact.manifest import Shape

EMBEDDING = b"token_embd.weight"
MOST = 1 << 40  # what is larger makes no sense


def shape(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> Shape:
    """What the header says by llama.cpp's keys; 0 where it does not, or says nonsense."""
    layers = header.integer(f"{architecture}.block_count") or 0
    keys, values = _cache(header, architecture, layers)
    embedding = next((tensor.shape for tensor in tensors if tensor.name == EMBEDDING), ())
    width, vocabulary = embedding if len(embedding) == 2 else (0, 0)
    return Shape(*map(_sensible, (layers, width, vocabulary, keys, values)))


def _cache(header: Gguf, architecture: str, layers: int) -> tuple[int, int]:
    """Elements that a token adds to the caches of keys and of values: heads times length of a head, over all layers."""
    heads = _per_layer(header, f"{architecture}.attention.head_count", layers)
    used = _per_layer(header, f"{architecture}.attention.head_count_kv", layers) or heads
    most = max(heads, default=0)
    if most <= 0:
        return 0, 0
    usual = (header.integer(f"{architecture}.embedding_length") or 0) // most
    key, value = (header.integer(f"{architecture}.attention.{name}_length") or usual for name in ("key", "value"))
    return sum(used) * key, sum(used) * value


def _per_layer(header: Gguf, key: str, layers: int) -> list[int]:
    """One number for all layers, or a list of one for each."""
    number = header.integer(key)
    return list(header.integers(key)) if number is None else [number] * min(layers, 1 << 16)


def _sensible(number: int) -> int:
    return number if 0 <= number < MOST else 0
