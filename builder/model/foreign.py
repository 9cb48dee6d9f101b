"""Guesses what a file is that is no GGUF file, so that the refusal can say what to do."""

import re
import zipfile
from pathlib import Path

OLD_GGML = (b"lmgg", b"tjgg", b"fmgg", b"algg", b"ggml", b"ggjt", b"ggmf", b"ggla")
HEAD = 512
COMMENT = re.compile(rb"mkllm/\d+ kit=[^\n]{1,120}\n$")


def describe(path: Path) -> str:
    """The end of the sentence `… is not a GGUF file: `."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "it is empty; download it again"
    if is_artifact(path):
        return f"it is an artifact made by mkllm; take its model out with `mkllm extract {path}`"
    return _from_head(head, path)


def is_artifact(path: Path) -> bool:
    """Whether the file ends as artifacts do."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 128))
        return bool(COMMENT.search(file.read(128)))


def _from_head(head: bytes, path: Path) -> str:
    if head[:4] in OLD_GGML:
        return "it is in a format from before GGUF; download a GGUF version of this model"
    if head[8:10] == b'{"' or path.suffix == ".safetensors":
        return (
            "it looks like safetensors; convert it with llama.cpp's convert_hf_to_gguf.py, or download a GGUF version"
        )
    if head[:2] == b"\x80\x02" or zipfile.is_zipfile(path):
        return "it looks like a PyTorch checkpoint or an archive; download a GGUF version of this model"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if head.lstrip()[:1] == b"<":
        return "it looks like a web page; download the file itself"
    if not head.strip(b"\0"):
        return "it begins with zeros, as an unfinished download does; download it again"
    return f"it begins with {head[:4]!r} instead of {b'GGUF'!r}; name a GGUF file"
