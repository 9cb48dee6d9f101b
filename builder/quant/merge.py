"""LoRA adapters into the weights of a GGUF file, in place: W + scale · B A, some rows at a time; judges nothing."""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any

from mkllm.builder.model.gguf import Gguf, Tensor, read_gguf
from mkllm.builder.quant.ggml import Ggml
from mkllm.builder.quant.llama import Refused

FIRST, SECOND = b".lora_a", b".lora_b"
EMBEDDING = b"token_embd.weight"
STRETCH = 4 << 20  # numbers at a time, for each thread
THREADS = 8


@dataclass(frozen=True)
class Product:
    """What is added to a tensor: `left` has `rank` numbers for each of its columns, `right` for each of its rows."""

    rank: int
    left: "ctypes.Array[Any]"
    right: "ctypes.Array[Any]"


def merge(request: Mapping[str, Any], native: Path, tell: Callable[..., None]) -> None:
    """Change the file `target` by the adapters in `adapters`, as strong as `scale` says; tells of each stretch."""
    target = read_gguf(Path(request["target"]))
    tensors = {tensor.name: tensor for tensor in target.tensors}
    descriptor = os.open(target.path, os.O_RDWR)
    threads = min(THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for adapter in map(read_gguf, map(Path, request["adapters"])):
                alpha = _alpha(adapter)
                for name, product in _products(adapter, Ggml(native)):
                    scale = request["scale"] * (alpha / product.rank if alpha else 1.0)
                    work = _Work(native, descriptor, target, tensors[name], product, scale)
                    for count in pool.map(work.stretch, work.starts()):
                        tell(bytes=count)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alpha(adapter: Gguf) -> float:
    """To be divided by the rank; 0: there is none, and the product is taken as it is."""
    found = adapter.keys.get("adapter.lora.alpha")
    return float(found.value) if found and isinstance(found.value, int | float) else 0.0


def _products(adapter: Gguf, ggml: Ggml) -> Iterator[tuple[bytes, Product]]:
    """One tensor's after the other."""
    parts = {tensor.name: tensor for tensor in adapter.tensors}
    with ExitStack() as stack:
        descriptor = os.open(adapter.path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        for name, first in sorted(parts.items()):
            if not name.endswith(FIRST):
                continue
            stem = name.removesuffix(FIRST)
            second = parts[stem + SECOND]
            a, b = (_floats(ggml, descriptor, adapter, tensor) for tensor in (first, second))
            rank = second.shape[0]
            if stem.endswith(EMBEDDING):
                yield stem, Product(rank, b, a)
            else:
                yield stem, Product(rank, ggml.transposed(ctypes.addressof(a), first.shape[0], rank), b)


def _floats(ggml: Ggml, descriptor: int, gguf: Gguf, tensor: Tensor) -> "ctypes.Array[Any]":
    data = _read(descriptor, gguf.data + tensor.offset, tensor.size)
    return ggml.floats(tensor.number, data, tensor.elements)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.pread(descriptor, size - len(data), offset + len(data))
        if not piece:
            raise Refused("the file ends before its weights do")
        data += piece
    return data


class _Work:
    """A tensor whose rows are changed, by whichever thread; each has a backend of its own."""

    _own = local()

    def __init__(
        self, native: Path, descriptor: int, target: Gguf, tensor: Tensor, product: Product, scale: float
    ) -> None:
        self._native = native
        self._descriptor = descriptor
        self._begin = target.data + tensor.offset
        self._tensor = tensor
        self._product = product
        self._width = tensor.shape[0]
        self._rows = tensor.elements // self._width
        self._row_size = tensor.size // self._rows
        self._count = max(1, STRETCH // self._width)
        self._scale = scale

    def starts(self) -> range:
        """The first rows of all stretches."""
        return range(0, self._rows, self._count)

    def stretch(self, start: int) -> int:
        """Change the rows from `start` on; the bytes that were read and written."""
        ggml = self._backend()
        rows, rank = min(self._count, self._rows - start), self._product.rank
        place, size = self._begin + start * self._row_size, rows * self._row_size
        numbers = ggml.floats(self._tensor.number, _read(self._descriptor, place, size), rows * self._width)
        right = ctypes.addressof(self._product.right) + 4 * rank * start
        left = ctypes.addressof(self._product.left)
        ggml.add_product(ctypes.addressof(numbers), left, right, (self._width, rows, rank), self._scale)
        data = memoryview(ggml.quantized(self._tensor.number, numbers, rows, self._width, size))
        while data:
            written = os.pwrite(self._descriptor, data, place)
            data, place = data[written:], place + written
        return size

    def _backend(self) -> Ggml:
        if not hasattr(self._own, "ggml"):
            self._own.ggml = Ggml(self._native)
        found: Ggml = self._own.ggml
        return found
