"""What is missing or damaged in a folder of weights is said before anything is started, each with its own exit code."""

import errno
import io
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
    PermissionFailure,
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
    for text in ("{", "[]", "[" * 100_000):
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
        struct.pack("<Q", 100_000) + b"[" * 100_000: "its header is not JSON",
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


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 0]}',
        '{"dtype": "F32", "shape": [NaN], "data_offsets": [0, 0]}',
        '{"dtype": "F32", "shape": [1.5], "data_offsets": [0, 0]}',
        '{"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [0], "data_offsets": [0, Infinity]}',
        '{"dtype": "F32", "shape": [1' + "0" * 4000 + '], "data_offsets": [0, 0]}',
    ],
)
def test_shapes_that_are_none(tmp_path: Path, entry: str) -> None:
    folder = checkpoints.write(tmp_path / "m")
    head = f'{{"a": {entry}}}'.encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    refused(folder, DamagedCheckpoint, 53, "model.safetensors' is damaged or truncated: its header does not describe")


FLAGS, METHOD = (6, 8), (8, 10)  # where they are in an archive's two headers of a file
DEFLATED, BZIP2, LZMA, UNKNOWN = 8, 12, 14, 99


@pytest.mark.parametrize(
    ("places", "value", "words"),
    [
        (FLAGS, 1, "'archive/data.pkl' is encrypted"),
        (METHOD, UNKNOWN, "compression method"),
        (METHOD, DEFLATED, "decompressing"),
        (METHOD, BZIP2, "Invalid data stream"),
        (METHOD, LZMA, ""),
    ],
)
def test_archives_that_cannot_be_read(tmp_path: Path, places: tuple[int, int], value: int, words: str) -> None:
    folder = pickled(checkpoints.write(tmp_path / "m"), b"\xff" * 100)
    file = folder / "pytorch_model.bin"
    data = bytearray(file.read_bytes())
    for mark, place in zip((b"PK\3\4", b"PK\1\2"), places, strict=True):
        data[data.index(mark) + place] = value
    file.write_bytes(data)
    refused(folder, DamagedCheckpoint, 53, f"pytorch_model.bin' is damaged or truncated: it cannot be read .*{words}")


@pytest.mark.parametrize("program", [b"", b"garbage", b"\x80\x02c", b"\x80\x02X\xff\xff\xff\xff"])
def test_programs_that_are_none(tmp_path: Path, program: bytes) -> None:
    refused(pickled(checkpoints.write(tmp_path / "m"), program), DamagedCheckpoint, 53, "it cannot be read")


def test_a_program_that_would_fill_the_memory(tmp_path: Path) -> None:
    folder = pickled(checkpoints.write(tmp_path / "m"), b"")
    file = folder / "pytorch_model.bin"
    data = bytearray(file.read_bytes())
    start = data.index(b"PK\1\2")
    data[start + 24 : start + 28] = struct.pack("<I", 1 << 31)
    file.write_bytes(data)
    refused(folder, DamagedCheckpoint, 53, "archive/data.pkl' is too large for what lists weights")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pytorch_model.bin"])
def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = checkpoints.write(tmp_path / "m")
    if name == "pytorch_model.bin":
        pickled(folder, b"")
    opened = io.open

    def refusing(file: object, *words: object, **more: object) -> object:
        if str(file).endswith(name):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(io, "open", refusing)
    refused(folder, PermissionFailure, 13, f"{name}' may not be read: check its permissions")
