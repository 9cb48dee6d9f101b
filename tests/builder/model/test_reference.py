"""Local models: what they are called, whatever their files are called, and what is said of those that are not seen."""

import os
from pathlib import Path

import pytest

from mkllm.builder.errors import ModelNotFound
from mkllm.builder.model.reference import expected_name, resolve
from mkllm.builder.progress import Output

QUIET = Output(True)


@pytest.mark.parametrize(
    ("file", "reference", "name"),
    [
        (b"x\xff.gguf", "x\ufffd.gguf", "x_"),
        (b"new\nline.gguf", "new\nline.gguf", "new_line"),
        (b".gguf", ".gguf", "model"),
        (b"l" * 200 + b".gguf", "l" * 200 + ".gguf", "l" * 100),
    ],
)
def test_names_of_files_that_are_no_names(
    file: bytes, reference: str, name: str, small_gguf: Path, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), file)))
    path.write_bytes(small_gguf.read_bytes())
    source = resolve(str(path), QUIET)
    assert (source.name, source.origin.reference, source.origin.file) == (name, reference, reference)


def test_names_that_are_known_before_anybody_is_asked(small_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "a\nb-00001-of-00002.gguf"
    path.write_bytes(small_gguf.read_bytes())
    names = {
        "demo": "demo",
        str(path): "a_b",
        "hf:org/repo/sub/m.Q4_0.gguf@v1": "m.Q4_0",
        "https://huggingface.co/org/repo/resolve/main/m.gguf": "m",
        "mistral-7b-q8": "mistral-7b",
        **dict.fromkeys(["hf:org/repo", "hf:", "ollama:x", "https://h/m.gguf", "https://[", "none", str(tmp_path)]),
    }
    assert {text: expected_name(text) for text in names} == names


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".gguf", "n" * 300 + "/m"])
def test_names_that_are_too_long(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"^the file '.*' cannot be opened: file name too long; check the name$"):
        resolve(name, QUIET)


def test_references_that_are_no_text() -> None:
    with pytest.raises(ModelNotFound, match="does not name a file on the hub"):
        resolve("hf:org/model/x\udcff.gguf", QUIET)
