"""A folder or a Modelfile that was named as a model: the GGUF file in it, or a sentence that says what to do."""

import re
from pathlib import Path

from mkllm.builder.convert.checkpoint import is_checkpoint
from mkllm.builder.errors import ModelNotFound, UnusableModel
from mkllm.builder.model.quant import models

LISTED = 5
HEAD = 4096
FROM = re.compile(r"^\s*FROM\s+(?P<model>\S+)\s*$", re.IGNORECASE | re.MULTILINE)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def only_model(folder: Path) -> Path | None:
    """The only GGUF model in a folder; None if it holds a model to be converted instead. Raises ModelNotFound."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    found = models(names)
    if len(found) == 1:
        return folder / found[0]
    if found:
        listed = ", ".join(found[:LISTED]) + (", …" if len(found) > LISTED else "")
        raise ModelNotFound(f"{str(folder)!r} has {len(found)} GGUF files: name one ({listed})")
    if is_checkpoint(names):
        return None
    if any(name.endswith(WEIGHTS) for name in names):
        raise ModelNotFound(
            f"{str(folder)!r} holds weights, but neither model….safetensors nor pytorch_model….bin, which are "
            "converted: name a folder as transformers saves it, or a .gguf file"
        )
    raise ModelNotFound(f"the folder {str(folder)!r} holds no model: name a .gguf file")


def is_modelfile(path: Path) -> bool:
    """Whether it is a Modelfile of Ollama's, by its name or its first instruction."""
    if path.name.lower().startswith("modelfile") or path.suffix.lower() == ".modelfile":
        return True
    if path.suffix.lower() == ".gguf":
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    lines = [line for line in head.decode("utf-8", "replace").splitlines() if line.strip() and not line.startswith("#")]
    return b"\0" not in head and bool(lines) and bool(FROM.fullmatch(lines[0]))


def refuse_modelfile(path: Path) -> UnusableModel:
    """The failure to raise for a Modelfile where only a model will do."""
    match = FROM.search(path.read_bytes()[:HEAD].decode("utf-8", "replace"))
    model = f"its FROM, {match['model']!r}" if match else "its FROM"
    return UnusableModel(
        f"{str(path)!r} is a Modelfile, and `mkllm build` reads it: here name the model of {model}, or build it first"
    )
