"""What is missing or damaged in a folder of weights is said before anything is started, each with its own exit code."""

import json
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import checkpoints
import pytest

from mkllm.builder.convert.checkpoint import Checkpoint, checkpoint, in_folder
from mkllm.builder.convert.safetensors import entries
from mkllm.builder.errors import (
    BuilderFailure,
    DamagedCheckpoint,
    MissingPart,
    MissingTokenizer,
    UnsafePickle,
    UnsupportedArchitecture,
)
from mkllm.builder.model.reference import expected_name, locate
from mkllm.builder.progress import Output


def look(folder: Path) -> Checkpoint:
    return checkpoint(in_folder(folder), folder.name, str(folder))


def refused(folder: Path, kind: type[BuilderFailure], code: int, words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        look(folder)
    assert raised.value.exit_code == code and str(folder) in str(raised.value)


def test_a_whole_one(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m", "llama", "BF16", 3)
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "consolidated.safetensors").write_bytes(b"")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    found = look(folder)
    assert found.weights == tuple(f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3))
    assert found.size == 2 * sum(
        entry.size // 2 for name in found.weights for entry in entries(found.files[name]).values()
    )
    assert not found.single and "1_Pooling/config.json" in found.files
    assert not any(name.endswith(".py") or name.startswith("consolidated") for name in found.files)


def test_numbers_of_32_bits_are_known(tmp_path: Path) -> None:
    assert look(checkpoints.write(tmp_path / "a", dtype="F32")).single
    assert not look(checkpoints.write(tmp_path / "b", dtype="F16")).single


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    text = str(checkpoints.write(tmp_path / "my-model"))
    place = locate(text, Output(True))
    assert expected_name(text) == "my-model"
    assert place.checkpoint and place.name == "my-model" and place.origin.source == "file"


def test_no_configuration(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    (folder / "config.json").unlink()
    refused(folder, MissingPart, 52, "has no config.json, which converting needs: get it from")


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        refused(folder, DamagedCheckpoint, 53, "config.json' (cannot be read|is not a JSON object)")


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    refused(folder, MissingTokenizer, 51, "has no tokenizer")
    (folder / "tokenizer.json").write_text("{}")
    assert look(folder).files["tokenizer.json"].exists()


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_file_of_weights(tmp_path: Path, with_index: bool) -> None:
    folder = checkpoints.write(tmp_path / "m", files=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    if not with_index:
        (folder / "model.safetensors.index.json").unlink()
    refused(folder, MissingPart, 52, "lacks 'model-00002-of-00003.safetensors' of the 3 files that its weights are in")


def test_weights_that_the_index_lists_are_there(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m", files=2)
    checkpoints.write_safetensors(folder / "model-00002-of-00002.safetensors", {"other": (4, 4)})
    refused(folder, MissingPart, 52, "lacks the weights 'lm_head.weight'.* and .* more, which its index lists")


def test_an_index_that_is_none(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m", files=2)
    for found in ({}, {"weight_map": {}}, {"weight_map": {"a": "../../etc/passwd"}}, {"weight_map": {"a": 1}}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(found))
        refused(folder, DamagedCheckpoint, 53, "does not list the files of the weights")


def test_damaged_safetensors(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + length])
    name = next(iter(head))
    for data, why in {
        whole[:-1]: "its tensors have .* bytes by its header, but",
        whole + b"\0": "its tensors have .* bytes by its header, but",
        whole[:5]: "it has 5 bytes, too few",
        struct.pack("<Q", 1 << 60) + whole[8:]: "it has .* bytes, too few for the header",
        whole[:8] + b"x" * length + whole[8 + length :]: "its header is not JSON",
        struct.pack("<Q", 2) + b"[]": "its header does not describe tensors",
    }.items():
        file.write_bytes(data)
        refused(folder, DamagedCheckpoint, 53, f"model.safetensors' is damaged or truncated: {why}")
    head[name]["shape"][0] += 1
    text = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    refused(folder, DamagedCheckpoint, 53, f"its tensor '{name}' has")


class Evil:
    def __reduce__(self) -> object:
        return exec, ("raise SystemExit('run')",)


def pickled(folder: Path, program: bytes) -> Path:
    (folder / "model.safetensors").unlink(missing_ok=True)
    checkpoints.write_pickle(folder / "pytorch_model.bin", program, bytes(100))
    return folder


def test_pickles_that_call_something(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    for protocol, name in ((2, "__builtin__.exec"), (5, "builtins.exec")):
        pickled(folder, pickle.dumps({"a": Evil()}, protocol))
        refused(folder, UnsafePickle, 54, f"would call '{name}' when it is loaded")


def test_pickles_of_weights(tmp_path: Path) -> None:
    folder = pickled(checkpoints.write(tmp_path / "m"), pickle.dumps(OrderedDict(), 2) + b"ctorch\nFloatStorage\n.")
    found = look(folder)
    assert found.weights == ("pytorch_model.bin",) and found.size == 100
    program = pickle.dumps(OrderedDict(), 2)[:-1] + b"ctorch\nBFloat16Storage\n."
    assert not look(pickled(folder, program)).single


def test_pickles_that_are_none(tmp_path: Path) -> None:
    folder = pickled(checkpoints.write(tmp_path / "m"), b"")
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:60])
    refused(folder, DamagedCheckpoint, 53, "it is no archive of PyTorch's")
    file.write_bytes(pickle.dumps({}, 2))
    refused(folder, UnsupportedArchitecture, 50, "in the form of PyTorch before 1.6")
