"""What runs in llama.cpp, as a program of its own: `python -m mkllm.builder.quant.worker REQUEST`.

The request is JSON: `kit` (its folder), `kernel` (a CPU variant), `command`, and what that takes. Answers are lines of
JSON on standard output. A crash in native code, or a signal, ends this program and no other.
"""

import contextlib
import ctypes
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mkllm.builder.errors import BuilderFailure
from mkllm.builder.kit import bindings
from mkllm.builder.quant.llama import FAILED, TENSOR, Log, Refused, loaded, tell, tokenize

NEW_TYPE = re.compile(r"size = .* -> .*\((?P<type>\w+)\)")
NEEDS_MATRIX = "will require an imatrix"

Request = dict[str, Any]


def plan(library: ModuleType, log: Log, request: Request) -> None:
    """For each number of a type in `types`: which type every tensor gets, and whether it takes a matrix."""
    for number in request["types"]:
        del log.lines[:], log.errors[:]
        with _parameters(library, number, request) as parameters:
            parameters.dry_run = True
            if library.llama_model_quantize(os.fsencode(request["model"]), b"", parameters):
                raise Refused(log.reason)
        needs = any(NEEDS_MATRIX in line for line in log.lines)
        tell(type=number, tensors=_tensors(log.lines), needs_matrix=needs)


def _tensors(lines: list[str]) -> dict[str, str]:
    """The type that each tensor gets: said on the line after its name, if it is another one."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if match := TENSOR.match(line):
            name = match["name"]
            found[name] = match["type"].upper()
        elif (match := NEW_TYPE.match(line)) and name:
            found[name] = match["type"].upper()
    return found


def quantize(library: ModuleType, log: Log, request: Request) -> None:
    """Write `target`, of the type with the number `type`; tells of every tensor that it comes to."""
    log.telling = True
    with _parameters(library, request["type"], request) as parameters:
        if library.llama_model_quantize(os.fsencode(request["model"]), os.fsencode(request["target"]), parameters):
            raise Refused(log.reason)


@contextlib.contextmanager
def _parameters(library: ModuleType, number: int, request: Request) -> Iterator[Any]:
    """What llama.cpp quantizes with; the numbers of an importance matrix live as long as the block."""
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = number
    parameters.allow_requantize = True
    kept: list[Any] = []
    if request.get("imatrix"):
        from mkllm.builder.quant.imatrix import read

        entries = read(Path(request["imatrix"]))
        rows = (library.llama_model_imatrix_data * (len(entries) + 1))()
        for row, (name, values) in zip(rows, entries.items(), strict=False):
            numbers = (ctypes.c_float * len(values)).from_buffer(values)
            kept.append(numbers)
            row.name, row.size = name.encode(), len(values)
            row.data = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = ctypes.cast(rows, ctypes.POINTER(library.llama_model_imatrix_data))
        kept.append(rows)
    yield parameters
    del kept


def count(library: ModuleType, log: Log, request: Request) -> None:
    """How many tokens the file `text` has, and the size of the vocabulary."""
    with loaded(library, Path(request["model"]), log, vocabulary_only=True) as model:
        vocabulary = library.llama_model_get_vocab(model)
        tokens = tokenize(library, vocabulary, Path(request["text"]).read_bytes())
        tell(tokens=len(tokens), vocabulary=library.llama_vocab_n_tokens(vocabulary))


def imatrix(library: ModuleType, log: Log, request: Request) -> None:
    """Compute the importance matrix of `text` and write it to `target`; tells of every chunk that is done."""
    from mkllm.builder.quant.collect import compute

    compute(library, log, request, tell)


def predict(library: ModuleType, log: Log, request: Request) -> None:
    """Predict the tokens of `text`."""
    from mkllm.builder.quant import predict

    predict.predict(library, log, request, tell)


def merge(library: ModuleType, log: Log, request: Request) -> None:
    """Merge `adapters` into the file `target`, as strong as `scale` says; tells of the bytes that are done."""
    from mkllm.builder.quant import merge

    merge.merge(request, Path(request["kit"]) / "members" / "native", tell)


def unmatrixed(library: ModuleType, log: Log, request: Request) -> None:
    """Which of the `types` cannot be quantized to without an importance matrix."""
    from mkllm.builder.quant.ggml import Ggml

    ggml = Ggml(Path(request["kit"]) / "members" / "native")
    tell(types=[kind for kind in request["types"] if ggml.requires_matrix(kind)])


COMMANDS = {
    "merge": merge,
    "unmatrixed": unmatrixed,
    "plan": plan,
    "quantize": quantize,
    "count": count,
    "imatrix": imatrix,
    "predict": predict,
}


def main(text: str) -> int:
    """Do what the request says; a failure is told as `error`."""
    request = json.loads(text)
    kit = Path(request["kit"])
    try:
        library = bindings.load(kit)
        log = Log(library)
        bindings.load_backend(kit, request["kernel"])
        COMMANDS[request["command"]](library, log, request)
    except BuilderFailure as error:
        tell(error=str(error), kit=True)
        return FAILED
    except Refused as error:
        tell(error=str(error), kit=False)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
