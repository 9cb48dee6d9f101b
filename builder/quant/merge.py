"""LoRA adapters into the weights of a GGUF file, in place: W + scale · B A, some rows at a time; judges nothing."""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any

from mkllm.builder.model.gguf import Gguf, Tensor, read_gguf
from mkllm.builder.quant.ggml import Ggml
from mkllm.builder.quant.llama import Refused, processors
from mkllm.runtime.artifact.copy import write_at

FIRST, SECOND = b".lora_a", b".lora_b"
EMBEDDING = b"token_embd.weight"
STRETCH = 4 << 20  # numbers at a time, for each thread
THREADS = 8


@dataclass(frozen=True)
class Product:
    """What is added to a tensor, times `scale`: `left` has `rank` numbers for each of its columns, `right` for each of
    its rows."""

    rank: int
    left: "ctypes.Array[Any]"
    right: "ctypes.Array[Any]"
    scale: float


def merge(request: Mapping[str, Any], native: Path, tell: Callable[..., None]) -> None:
    """Change the file `target` by the adapters in `adapters`, as strong as `scale` says; tells of each stretch."""
    target = read_gguf(Path(request["target"]))
    tensors = {tensor.name: tensor for tensor in target.tensors}
    with ExitStack() as stack:
        descriptor = _opened(stack, target.path, os.O_RDWR)
        found = [_Adapter(stack, read_gguf(Path(path))) for path in request["adapters"]]
        pool = stack.enter_context(ThreadPoolExecutor(min(THREADS, processors())))
        ggml = Ggml(native)
        for name in sorted({name for adapter in found for name in adapter.names}):
            products = [one.product(name, request["scale"], ggml) for one in found if name in one.names]
            work = _Work(native, descriptor, target, tensors[name], products)
            for count in pool.map(work.stretch, work.starts()):
                tell(bytes=count)
        os.fsync(descriptor)


def _opened(stack: ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags)
    stack.callback(os.close, descriptor)
    return descriptor


class _Adapter:
    """What an adapter adds, tensor by tensor."""

    def __init__(self, stack: ExitStack, gguf: Gguf) -> None:
        self._gguf = gguf
        self._descriptor = _opened(stack, gguf.path, os.O_RDONLY)
        self._parts = {tensor.name: tensor for tensor in gguf.tensors}
        self.names = {name.removesuffix(FIRST) for name in self._parts if name.endswith(FIRST)}

    def product(self, name: bytes, scale: float, ggml: Ggml) -> Product:
        """What is added to the tensor of that name, as strong as `scale` and the adapter's alpha say."""
        first, second = self._parts[name + FIRST], self._parts[name + SECOND]
        a, b = (_floats(ggml, self._descriptor, self._gguf, tensor) for tensor in (first, second))
        rank, alpha = second.shape[0], self._alpha()
        scale *= alpha / rank if alpha else 1.0
        if name.endswith(EMBEDDING):
            return Product(rank, b, a, scale)
        return Product(rank, ggml.transposed(ctypes.addressof(a), first.shape[0], rank), b, scale)

    def _alpha(self) -> float:
        """To be divided by the rank; 0: there is none, and the product is taken as it is."""
        found = self._gguf.keys.get("adapter.lora.alpha")
        return float(found.value) if found and isinstance(found.value, int | float) else 0.0


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
        self, native: Path, descriptor: int, target: Gguf, tensor: Tensor, products: Sequence[Product]
    ) -> None:
        self._native = native
        self._descriptor = descriptor
        self._begin = target.data + tensor.offset
        self._tensor = tensor
        self._products = products
        self._width = tensor.shape[0]
        self._rows = tensor.elements // self._width
        self._row_size = tensor.size // self._rows
        self._count = max(1, STRETCH // self._width)

    def starts(self) -> range:
        """The first rows of all stretches."""
        return range(0, self._rows, self._count)

    def stretch(self, start: int) -> int:
        """Change the rows from `start` on; the bytes that were read and written."""
        ggml = self._backend()
        rows = min(self._count, self._rows - start)
        place, size = self._begin + start * self._row_size, rows * self._row_size
        numbers = ggml.floats(self._tensor.number, _read(self._descriptor, place, size), rows * self._width)
        for product in self._products:  # rounded once for all
            right = ctypes.addressof(product.right) + 4 * product.rank * start
            left, shape = ctypes.addressof(product.left), (self._width, rows, product.rank)
            ggml.add_product(ctypes.addressof(numbers), left, right, shape, product.scale)
        write_at(self._descriptor, ggml.quantized(self._tensor.number, numbers, rows, self._width, size), place)
        return size

    def _backend(self) -> Ggml:
        if not hasattr(self._own, "ggml"):
            self._own.ggml = Ggml(self._native)
        found: Ggml = self._own.ggml
        return found
