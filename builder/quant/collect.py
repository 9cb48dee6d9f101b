"""Computes an importance matrix: runs a text through the model and sums the squares of what each weight is fed.

As llama.cpp's own llama-imatrix does, which kits do not have: for every product of a weight `blk.*` with activations
the mean of the squares of each column, by expert where there are several. Runs in the worker.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mkllm.builder.quant import imatrix
from mkllm.builder.quant.ggml import F32, Ggml, Tensor
from mkllm.builder.quant.llama import Log, Refused, Runner, loaded, tokenize

PRODUCT, BY_EXPERT = "MUL_MAT", "MUL_MAT_ID"
LAYERS = "blk."
FEWEST_ROWS = 16  # of a product; single tokens are no batch of the text


@dataclass
class Entry:
    """The sums of one weight: `matrices` times `width` squares, and how many rows each matrix was fed."""

    sums: "ctypes.Array[Any]"
    counts: list[int]


class Collector:
    """What llama.cpp asks about every operation while it computes."""

    def __init__(self, ggml: Ggml) -> None:
        self._ggml = ggml
        self.entries: dict[str, Entry] = {}
        self.failure = ""

    def look(self, address: int, ask: bool, _: object = None) -> bool:
        """Whether the tensor is wanted, or, when it was, whether to go on."""
        tensor = Tensor.from_address(address)
        operation = self._ggml.op_name(tensor)
        if operation not in (PRODUCT, BY_EXPERT):
            return not ask
        weight, values = tensor.src[0].contents, tensor.src[1].contents
        name = weight.name.decode(errors="replace")
        if ask:
            few = operation == PRODUCT and values.ne[1] < FEWEST_ROWS
            return name.startswith(LAYERS) and values.type == F32 and not few
        return self._take(name, weight, values, tensor.src[2].contents if operation == BY_EXPERT else None)

    def _take(self, name: str, weight: Tensor, values: Tensor, experts: Tensor | None) -> bool:
        matrices = weight.ne[2] * weight.ne[3]
        rows = values.ne[1] * values.ne[2] * values.ne[3]
        if name not in self.entries:
            counts = [0] * (matrices if experts else 1)
            self.entries[name] = Entry((ctypes.c_float * (values.ne[0] * matrices))(), counts)
        entry = self.entries[name]
        weights = (ctypes.c_float * (rows * matrices))()
        if experts:
            _route(experts, values, weights, entry.counts)
        else:
            _spread(weight, values, weights)
            entry.counts[0] += rows // matrices
        try:
            self._ggml.add_squares(values, weights, entry.sums)
        except MemoryError:
            self.failure = f"there is no memory for summing the squares of {name}"
        return not self.failure


def _route(experts: Tensor, values: Tensor, weights: "ctypes.Array[Any]", counts: list[int]) -> None:
    """Which row of `values` (token by token, one for each expert or one for all) goes to which expert."""
    used, tokens, slots = experts.ne[0], experts.ne[1], values.ne[1]
    rows = slots * values.ne[2]
    for token in range(tokens):
        for place in range(used):
            at = experts.data + token * experts.nb[1] + place * experts.nb[0]
            expert = ctypes.c_int32.from_address(at).value
            weights[expert * rows + token * slots + place % slots] += 1.0
            counts[expert] += 1


def _spread(weight: Tensor, values: Tensor, weights: "ctypes.Array[Any]") -> None:
    """All rows go to the one matrix; where a weight is several, those of each plane of `values` to its own."""
    high, deep, planes = values.ne[1], values.ne[2], values.ne[3]
    rows = high * deep * planes
    for plane in range(planes):
        for layer in range(deep):
            matrix = (plane % weight.ne[3]) * weight.ne[2] + layer % weight.ne[2]
            start = matrix * rows + (plane * deep + layer) * high
            weights[start : start + high] = [1.0] * high


def compute(library: ModuleType, log: Log, request: dict[str, Any], tell: Callable[..., None]) -> None:
    """Write the matrix of the text `text` to `target`, of all whole chunks of `chunk` tokens."""
    kit, chunk = Path(request["kit"]), request["chunk"]
    collector = Collector(Ggml(kit / "members" / "native"))
    callback = library.ggml_backend_sched_eval_callback(collector.look)
    with loaded(library, Path(request["model"]), log) as model:
        vocabulary = library.llama_model_get_vocab(model)
        tokens = tokenize(library, vocabulary, Path(request["text"]).read_bytes())
        chunks = len(tokens) // chunk
        runner = Runner(library, model, chunk, callback)
        for number in range(chunks):
            if not runner.run(tokens[number * chunk : (number + 1) * chunk], 0):
                raise Refused(collector.failure or log.reason)
            tell(chunk=number + 1, chunks=chunks)
        runner.close()
    _check(collector)
    matrix = {name: (entry.sums, entry.counts) for name, entry in collector.entries.items()}
    imatrix.write(Path(request["target"]), matrix, chunks, chunk, request["dataset"])


def _check(collector: Collector) -> None:
    if not collector.entries:
        raise Refused("none of its products is with a weight of a layer")
