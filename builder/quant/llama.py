"""llama.cpp in the worker: what it says, models that it has loaded, texts as their tokens."""

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

ERROR_LEVEL = 4
FAILED = 3
TENSOR = re.compile(r"\[ *\d+/ *\d+\] (?P<name>.*?) +- \[[ \d,]*\], type = +(?P<type>\w+)")


class Refused(Exception):
    """llama.cpp does not do it; the message says why."""


class Log:
    """What llama.cpp says: its reasons are kept, the tensors that it comes to are told to whoever asked."""

    def __init__(self, library: ModuleType) -> None:
        self.errors: list[str] = []
        self.lines: list[str] = []
        self.telling = False
        self._callback = library.llama_log_callback(self._take)
        library.llama_log_set(self._callback, ctypes.c_void_p(0))

    @property
    def reason(self) -> str:
        """Its last complaint, without the name of the function."""
        told = [text for text in self.errors if text]
        return told[-1].split(": ", 1)[-1] if told else "it gives no reason"

    def _take(self, level: int, text: bytes, data: object) -> None:
        line = text.decode(errors="replace").strip()
        if level == ERROR_LEVEL:
            self.errors.append(line.strip("=\n "))
        self.lines.append(line)
        if self.telling and (match := TENSOR.match(line)):
            tell(tensor=match["name"])


def tell(**values: Any) -> None:
    """Answer; whoever asked may be gone, and then there is nobody to work for."""
    try:
        print(json.dumps(values), flush=True)
    except OSError:
        os._exit(FAILED)


@contextlib.contextmanager
def loaded(library: ModuleType, path: Path, log: Log, *, vocabulary_only: bool = False) -> Iterator[Any]:
    """The model, its weights mapped as they are. Raises Refused."""
    parameters = library.llama_model_default_params()
    parameters.vocab_only = vocabulary_only
    parameters.n_gpu_layers = 0
    parameters.use_extra_bufts = False  # nothing is repacked
    model = library.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise Refused(log.reason)
    try:
        yield model
    finally:
        library.llama_model_free(model)


def tokenize(library: ModuleType, vocabulary: Any, text: bytes) -> list[int]:
    """All of the text, with the token that begins a text where the model wants one; names of tokens in it are text."""
    count = -library.llama_tokenize(vocabulary, text, len(text), None, 0, True, False)
    tokens = (library.llama_token * max(1, count))()
    if library.llama_tokenize(vocabulary, text, len(text), tokens, count, True, False) != count:
        raise Refused("its tokenizer cannot read the text")
    return list(tokens[:count])


def processors() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Runner:
    """A context of `chunk` tokens that is emptied before every chunk; `callback` is asked about every operation."""

    def __init__(self, library: ModuleType, model: Any, chunk: int, callback: Any = None) -> None:
        self._library = library
        parameters = library.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = chunk
        parameters.n_threads = parameters.n_threads_batch = processors()
        if callback:
            parameters.cb_eval = callback
        self.context = library.llama_init_from_model(model, parameters)
        if not self.context:
            raise Refused("it has no memory for the text")
        vocabulary = library.llama_model_get_vocab(model)
        begins = library.llama_vocab_get_add_bos(vocabulary)
        self._begin = library.llama_vocab_bos(vocabulary) if begins else None
        self._batch = library.llama_batch_init(chunk, 0, 1)

    def run(self, tokens: list[int], first: int) -> bool:
        """Compute all of them, with outputs from place `first` on; the first is the one that begins a text, where the
        model wants that. Whether it could be done."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self.context), True)
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.logits[place] = 1, place >= first
            batch.seq_id[place][0] = 0
        if self._begin is not None:
            batch.token[0] = self._begin
        return bool(self._library.llama_decode(self.context, batch) == 0)

    def close(self) -> None:
        """Give its memory back."""
        self._library.llama_batch_free(self._batch)
        self._library.llama_free(self.context)
