"""Runs llama.cpp's converter in its environment, shows how far it is, and makes one sentence of what it refuses."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder import process
from mkllm.builder.convert import recognise
from mkllm.builder.convert.environment import Environment
from mkllm.builder.errors import (
    BuilderFailure,
    DamagedCheckpoint,
    MissingPart,
    MissingTokenizer,
    NoSpace,
    ToolFailed,
    UnsafePickle,
    UnsupportedArchitecture,
)
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.draft import draft

# The converter's libraries ask nobody for anything, and have no place for a model's code, without which they run none.
ALONE = {
    "HF_MODULES_CACHE": os.devnull,
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "0",
}
WRITING = re.compile(r"Writing:\s+(?P<percent>\d+)%")
BAR = re.compile(r"Writing:[^\[]*(\[[^\]]*\])?")
RAISED = re.compile(r"[\w.]*(?:Error|Exception): ")
RECOGNISED = re.compile(
    re.escape(recognise.TOLD) + r"(?P<name>[\w.-]+)(?P<unnormalized>" + re.escape(recognise.UNNORMALIZED) + ")?"
)
KILLED = "was ended by signal 9"


@dataclass(frozen=True)
class Refusal:
    """What the converter prints when it refuses, the failure that it is, and why; {0} is the pattern's group."""

    pattern: re.Pattern[str]
    failure: type[BuilderFailure]
    why: str


def _refusal(pattern: str, failure: type[BuilderFailure], why: str) -> Refusal:
    return Refusal(re.compile(pattern, re.MULTILINE), failure, why)


REFUSALS = (
    _refusal(
        r"ERROR:.*Model (\S+) is not supported",
        UnsupportedArchitecture,
        "its architecture {0} is none that llama.cpp converts: use a newer mkllm, or another model",
    ),
    _refusal(
        r"Failed to detect model architecture",
        UnsupportedArchitecture,
        "its config.json names no architecture: get it from the source of the weights",
    ),
    _refusal(
        r"(?:Weights only load failed|Unsupported (?:global|operand|class)\b.*)",
        UnsafePickle,
        "PyTorch refuses to load its files, since they would run code: take the model's version in safetensors",
    ),
    _refusal(
        r"pre-tokenizer was not recognized: (.*)",
        MissingTokenizer,
        "its tokenizer has a rule that llama.cpp does not know ({0}): use a newer mkllm, or a GGUF version of it",
    ),
    _refusal(
        r"pre-tokenizer was not recognized",
        MissingTokenizer,
        "its tokenizer splits text in a way that llama.cpp does not know: use a newer mkllm, or a GGUF version of it",
    ),
    _refusal(
        r"File not found: .*token|Can't load tokenizer|instantiate the backend tokenizer"
        r"|Cannot find .*(?:BPE|tokenizer)|(?:FileNotFoundError|OSError|TypeError):.*(?:token|vocab|merges)",
        MissingTokenizer,
        "files of its tokenizer are missing or not those that its architecture needs: get them from the source of the "
        "weights",
    ),
    _refusal(r"Missing or incomplete model files: \[(.*)\]", MissingPart, "files are missing ({0}): download them"),
    _refusal(
        r"Mismatch between weight map and model parts",
        MissingPart,
        "its files do not hold the weights that its index lists: download them again",
    ),
    _refusal(
        r"(?:SafetensorError|PytorchStreamReader failed)[^\n]*",
        DamagedCheckpoint,
        "its weights cannot be read: copy or download them again",
    ),
    _refusal(
        r"Can not map tensor '([^']+)'",
        UnsupportedArchitecture,
        "its tensor {0!r} is none of its architecture: it is quantized in another way, or changed; take the original",
    ),
    _refusal(r"NotImplementedError: (.+)", UnsupportedArchitecture, "llama.cpp's converter does not do this yet: {0}"),
    _refusal(r"No space left on device", NoSpace, "no space left on the disk: free some, or set MKLLM_CACHE"),
)


def convert(
    environment: Environment,
    script: str,
    words: Sequence[str | Path],
    told: str,
    total: int,
    place: Path,
    output: Output,
) -> None:
    """Write the GGUF file `place` by that script with these words; `total` is about how many bytes it will have.

    `told` is what is converted, in a sentence. Raises a BuilderFailure; nothing is left then.
    """
    with draft(place) as new, output.task(f"converting {told}", total) as step:
        lines: list[str] = []
        command = [
            environment.python,
            "-s",
            "-E",
            "-B",
            recognise.__file__,
            environment.source / script,
            *words,
            "--outfile",
            new.path.name,
        ]
        try:
            process.run(command, cwd=place.parent, env=ALONE, on_line=_watcher(lines, total, step))
        except (ToolFailed, NoSpace) as failure:
            raise _translated(told, lines, str(failure)) from None
        read_gguf(new.path)  # whole, or it says why not
        new.commit(0o644, force=True)
    for note in _notes(told, lines):
        output.note(note)


def _watcher(lines: list[str], total: int, step: Callable[[int], None]) -> Callable[[str], None]:
    """Keeps what the converter prints, and tells how much of its file is written."""
    told = 0

    def watch(line: str) -> None:
        nonlocal told
        lines.append(BAR.sub("", line))
        if match := WRITING.search(line):
            done = total * int(match["percent"]) // 100
            step(done - told)
            told = done

    return watch


def _notes(told: str, lines: list[str]) -> Iterator[str]:
    """What is to be known of a tokenizer that was recognised by its rules."""
    found = next((match for match in map(RECOGNISED.fullmatch, lines) if match), None)
    rules = found and next(
        (rules for rules in (*recognise.table()[0], recognise.BERT) if rules.name == found["name"]), None
    )
    if not found or not rules:
        return
    yield f"note: the vocabulary of {told!r} is unknown to llama.cpp, but it splits text by the rules of {rules.name}"
    if rules.differs:
        yield f"note: like other models with these rules it has other tokens in llama.cpp for {rules.differs}"
    if found["unnormalized"]:
        yield "note: like other models it has other tokens in llama.cpp for text that is not in Unicode's form NFC"


def _translated(told: str, lines: list[str], failure: str) -> BuilderFailure:
    text = "\n".join(lines)
    for refusal in REFUSALS:
        if match := refusal.pattern.search(text):
            return refusal.failure(f"{told!r} cannot be converted: {refusal.why.format(*match.groups())}")
    if KILLED in failure:
        why = "the system ended the converter, most likely for want of memory"
        return ToolFailed(f"{told!r} cannot be converted: {why}")
    said = [line for line in lines if line.strip()] or ["nothing"]
    why = next((line.strip() for line in reversed(said) if RAISED.match(line)), said[-1])
    return ToolFailed(f"{told!r} cannot be converted: llama.cpp's converter says {why!r}")
