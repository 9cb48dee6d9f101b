"""Folders and Modelfiles that are named as models: used where they can be, else refused with what to do instead."""

from pathlib import Path

import pytest

from mkllm.builder.errors import ModelNotFound, UnusableModel
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

QUIET = Output(True)


def test_a_folder_with_one_model(tmp_path: Path, small_gguf: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(small_gguf.read_bytes())
    (tmp_path / "mmproj-m.gguf").write_bytes(b"GGUF")
    assert resolve(str(tmp_path), QUIET).path == tmp_path / "m.gguf"
    (tmp_path / "n.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFound, match=r"has 2 GGUF files: name one \(m.gguf, n.gguf\)"):
        resolve(str(tmp_path), QUIET)


def test_a_folder_with_weights_that_are_not_converted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "consolidated.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFound, match="holds weights, but neither model….safetensors nor pytorch_model….bin"):
        resolve(str(tmp_path), QUIET)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="holds no model: name a .gguf file"):
        resolve(str(tmp_path), QUIET)


@pytest.mark.parametrize("name", ["Modelfile", "my.modelfile", "recipe"])
def test_a_modelfile_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("# a comment\nFROM llama3.2:1b\nSYSTEM Be brief.\n")
    with pytest.raises(
        UnusableModel, match="is a Modelfile, and `mkllm build` reads it: here name the model of its FROM, "
    ):
        resolve(str(path), QUIET)


def test_other_files_are_told_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("From here on it is only text.\n")
    with pytest.raises(UnusableModel, match="is not a GGUF file"):
        resolve(str(path), QUIET)
