"""Predicts a text, and reckons how far the predictions are from another model's; runs in the worker.

The text's tokens are cut into pieces; of each the later half is predicted, as llama-perplexity does.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from mkllm.builder.quant.ggml import Ggml
from mkllm.builder.quant.llama import Log, Refused, Runner, loaded, tokenize

BLOCK = 1 << 24  # bytes of predictions that are reckoned with at once
FLOAT = 4


def predict(library: ModuleType, log: Log, request: dict[str, Any], tell: Callable[..., None]) -> None:
    """Tells of every chunk `nll`, the negative log-likelihoods of its tokens; with `compare`, `kld` and `same` too.

    The file `logits` gets all log-probabilities (32 bits each), or is what they are compared with; None: neither.
    """
    context, chunks, compare = request["context"], request["chunks"], request["compare"]
    ggml = Ggml(Path(request["kit"]) / "members" / "native")
    mode = "rb" if compare else "wb"
    with (
        loaded(library, Path(request["model"]), log) as model,
        open(request["logits"] or "/dev/null", mode) as file,
    ):
        vocabulary = library.llama_model_get_vocab(model)
        width = library.llama_vocab_n_tokens(vocabulary)
        if width != request["vocabulary"]:
            raise Refused(f"it has {width} tokens in its vocabulary, the first model has {request['vocabulary']}")
        tokens = tokenize(library, vocabulary, Path(request["text"]).read_bytes())
        runner, first = Runner(library, model, context), context // 2
        for number in range(chunks):
            piece = tokens[number * context : (number + 1) * context]
            if not runner.run(piece, first):
                raise Refused(log.reason)
            logits = ctypes.addressof(library.llama_get_logits(runner.context).contents)
            found = _piece(ggml, logits, width, piece[first + 1 :], file, compare)
            tell(chunk=number + 1, **found)
        runner.close()


def _piece(
    ggml: Ggml, logits: int, width: int, wanted: list[int], file: IO[bytes], compare: bool
) -> dict[str, list[Any]]:
    """What there is to tell of the predictions at `logits`, of which those of `wanted` came true."""
    found: dict[str, list[Any]] = {"nll": [], "kld": [], "same": []}
    step = max(1, BLOCK // (FLOAT * width))
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        mine = ggml.log_probabilities(logits + FLOAT * width * start, width, len(part))
        found["nll"] += [-mine[place * width + token] for place, token in enumerate(part)]
        if compare:
            other = file.read(FLOAT * width * len(part))
            base = ctypes.create_string_buffer(other, len(other))
            values, same = ggml.divergences(ctypes.addressof(base), ctypes.addressof(mine), width, len(part))
            found["kld"] += values
            found["same"] += same
        else:
            file.write(bytes(mine))
    return found
