"""Reading GGUF headers: what the engine reads is read, what it refuses is refused in a sentence, damage never hurts."""

import os
import random
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import BuilderFailure, ModelNotFound, PermissionFailure, UnusableModel
from mkllm.builder.model.facts import facts
from mkllm.builder.model.gguf import Gguf, read_gguf
from mkllm.builder.model.tables import tables

GgufBytes = Callable[..., bytes]
DAMAGES = 1000


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Gguf]:
    def reading(data: bytes) -> Gguf:
        (tmp_path / "model.gguf").write_bytes(data)
        return read_gguf(tmp_path / "model.gguf")

    return reading


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_is_read(version: int, read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:
    header = read(gguf_bytes(version=version))
    assert header.version == version and header.alignment == 32
    assert [tensor.name for tensor in header.tensors] == [
        b"token_embd.weight",
        b"blk.0.attn_norm.weight",
        b"output.weight",
    ]
    assert [tensor.size for tensor in header.tensors] == [2040, 260, 2040]
    assert header.text("general.name") == "Small Test" and header.integer("llama.context_length") == 512
    assert header.keys["tokenizer.ggml.tokens"].value is None
    assert header.data + header.tensors[-1].offset + 2040 <= header.size


def test_the_independent_writer_agrees(tmp_path: Path) -> None:
    """Files of the gguf package, which llama.cpp's own converter uses."""
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_context_length(77)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float64("some.float", 1.5)
    writer.add_bool("some.bool", True)
    writer.add_tensor("one", numpy.ones((3, 5), dtype=numpy.float32))
    writer.add_tensor("two", numpy.ones((7,), dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(tmp_path / "other.gguf")
    assert [tensor.shape for tensor in header.tensors] == [(5, 3), (7,)]
    assert header.keys["some.float"].value == 1.5 and header.keys["some.bool"].value is True
    model = facts(header, header.tensors)
    assert (model.architecture, model.context, model.parameters, model.quantization) == ("llama", 77, 22, "F32")


EXPERTS = {
    "token_embd.weight": ((64, 30), 8),
    "blk.0.ffn_up_exps.weight": ((64, 8, 4), 8),
    "blk.0.attn_norm.weight": ((64,), 0),
    "output.weight": ((64, 30), 8),
}


@pytest.mark.parametrize(
    "changes,without,size",
    [
        ({"llama__expert_count": 4, "llama__expert_used_count": 2}, None, 2040 + 256 + 4 * 544 // 2),
        ({"llama__expert_count": 4, "llama__expert_used_count": 2}, "output.weight", 2040 + 256 + 4 * 544 // 2),
        ({"llama__expert_count": 4}, None, 0),
        ({}, "blk.0.ffn_up_exps.weight", 2040 + 256),
    ],
)
def test_what_one_token_reads_of_the_weights(
    read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes, changes: dict[str, int], without: str | None, size: int
) -> None:
    """Half of four experts; the table of tokens only where it is the output too."""
    tensors = {name: tensor for name, tensor in EXPERTS.items() if name != without}
    header = read(gguf_bytes(tensors=tensors, **changes))
    assert facts(header, header.tensors).token_weights == size


def test_facts(read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:
    header = read(gguf_bytes())
    model = facts(header, header.tensors)
    assert (model.architecture, model.parameters, model.quantization) == ("llama", 3905, "Q8_0")
    assert (model.license, model.title, model.chat_template) == ("apache-2.0", "Small Test", "{{ messages }}")
    assert (model.layers, model.layer_bytes) == (0, 260)
    without = read(gguf_bytes(general__file_type=None, general__license=None, tokenizer__chat_template=None))
    model = facts(without, without.tensors)
    assert (model.quantization, model.license, model.chat_template) == ("Q8_0", None, None)


POOLED = [
    ("llama", None, "blk", None),
    ("qwen3", 3, "blk", "last"),
    ("qwen3", 4, "blk", "rank"),
    ("bert", 1, "blk", "mean"),
    ("bert", 2, "blk", "cls"),
    ("bert", None, "blk", "mean"),
    ("nomic-bert", 0, "blk", "mean"),
    ("bert", None, "cls.output", "rank"),
    ("bert", 99, "blk", "mean"),
]


@pytest.mark.parametrize(("architecture", "number", "tensor", "pooling"), POOLED)
def test_what_a_model_makes_of_a_text(
    read: Callable[[bytes], Gguf],
    gguf_bytes: GgufBytes,
    architecture: str,
    number: int | None,
    tensor: str,
    pooling: str | None,
) -> None:
    keys = {"general.architecture": architecture, f"{architecture}.context_length": 512}
    told = {} if number is None else {f"{architecture}.pooling_type": number}
    changes = {key.replace(".", "__"): value for key, value in {**keys, **told}.items()}
    header = read(gguf_bytes(tensors={f"{tensor}.weight": ((8,), 0)}, **changes))
    assert facts(header, header.tensors).pooling == pooling


def test_layers(read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:
    tensors = {
        "blk.0.a.weight": ((8,), 0),
        "blk.1.a.weight": ((8,), 0),
        "blk.1.b.weight": ((4,), 0),
        "other": ((99,), 0),
    }
    header = read(gguf_bytes(tensors=tensors, llama__block_count=2))
    model = facts(header, header.tensors)
    assert (model.layers, model.layer_bytes) == (2, 48)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"general__architecture": "wonder"}, "has the architecture 'wonder', which the engine does not know"),
        ({"general__architecture": None}, "does not say which architecture"),
        ({"general__architecture": 7}, "does not say which architecture"),
        ({"general__architecture": "clip"}, "is a projector for images"),
        ({"general__type": "adapter"}, "is a LoRA adapter"),
        ({"general__type": "imatrix"}, "is an importance matrix"),
        ({"tensors": {}}, "holds a vocabulary only"),
        ({"tensors": {}, "tokenizer__ggml__model": None}, "holds no tensors"),
        ({"tokenizer__ggml__model": None}, "has no tokenizer"),
        ({"llama__context_length": None}, "how many tokens its context has"),
        ({"llama__context_length": 0}, "how many tokens its context has"),
        ({"llama__context_length": "many"}, "how many tokens its context has"),
    ],
)
def test_models_that_cannot_be_served(changes, why: str, read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:  # type: ignore[no-untyped-def]
    header = read(gguf_bytes(**changes))
    with pytest.raises(UnusableModel, match=re.escape(why)) as caught:
        facts(header, header.tensors)
    assert repr(str(header.path)) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"GG", "instead of b'GGUF'"),
        (b"GGUF", "ends after 4 bytes, in the middle of its header"),
        (b"hello world, this is text", "begins with b'hell' instead of b'GGUF'"),
        (b"tjgg" + bytes(100), "from before GGUF"),
        (b"PK\x03\x04" + bytes(100), "begins with"),
        (b"\x80\x02\x8a\x0al\xfc", "PyTorch checkpoint"),
        (struct.pack("<Q", 40) + b'{"__metadata__"', "looks like safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"<!doctype html><html>", "looks like a web page"),
        (bytes(4096), "begins with zeros"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(99), "is big-endian"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(99), "GGUF version 1, the engine reads versions 2 and 3: convert"),
        (b"GGUF" + struct.pack("<I", 4) + bytes(99), "GGUF version 4, the engine reads versions 2 and 3: use a newer"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "claims to have 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**63), "claims to have 1 tensors and 9223372036854775808 keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**62), "a string of 4611686018427387904 bytes"),
    ],
)
def test_files_that_are_something_else(data: bytes, why: str, read: Callable[[bytes], Gguf]) -> None:
    with pytest.raises(UnusableModel, match=re.escape(why)):
        read(data)


def test_an_artifact_as_model_is_recognized(small_artifact: Path) -> None:
    with pytest.raises(UnusableModel, match="it is an artifact made by mkllm; take its model out with `mkllm extract"):
        read_gguf(small_artifact)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(UnusableModel, match="is not a file"):
        read_gguf(tmp_path)
    with pytest.raises(ModelNotFound, match="cannot be opened"):
        read_gguf(tmp_path / ("x" * 300))
    if os.geteuid():
        (tmp_path / "secret.gguf").touch(mode=0)
        with pytest.raises(PermissionFailure, match="may not be read"):
            read_gguf(tmp_path / "secret.gguf")


def test_truncated_at_every_length(read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:
    data = gguf_bytes()
    last = len(data) - 8  # what pads the last tensor may be missing
    for length in range(0, last, 13):
        with pytest.raises(UnusableModel):
            read(data[:length])
    with pytest.raises(UnusableModel, match=r"'output.weight' ends at byte \d+, but the file has"):
        read(data[: last - 1])
    assert read(data[:last]).tensors


def tensor_info(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    text = name.encode()
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(text)) + text + dimensions + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("infos", "why"),
    [
        ([("a", (32,), 0, 0), ("a", (32,), 0, 128)], "'a' is there twice"),
        ([("a", (32,), 0, 0), ("b", (32,), 0, 64)], "'b' lies at 64, not at 128"),
        ([("a", (32,), 0, 0), ("b", (32,), 0, 256)], "'b' lies at 256, not at 128"),
        ([("a", (32,), 0, 32)], "'a' lies at 32, not at 0"),
        ([("a", (33,), 8, 0)], "impossible shape [33] for Q8_0"),
        ([("a", (2**33, 2**33), 0, 0)], "impossible shape"),
        ([("a", (2**50,), 0, 0)], "but the file has"),
        ([("a", (1, 1, 1, 1, 1), 0, 0)], "has 5 dimensions"),
        ([("a", (32,), 4, 0)], "the unknown type 4"),
        ([("a", (32,), 99, 0)], "the unknown type 99"),
        ([("x" * 64, (32,), 0, 0)], "a tensor's name has 64 bytes"),
    ],
)
def test_tensors_that_cannot_be(infos, why: str, read: Callable[[bytes], Gguf]) -> None:  # type: ignore[no-untyped-def]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), 0) + b"".join(tensor_info(*info) for info in infos)
    with pytest.raises(UnusableModel, match=re.escape(why)):
        read(head + bytes(4096))


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([key(b"a", 4, bytes(4)), key(b"a", 4, bytes(4))], "'a' at offset 41 is empty or there twice"),
        ([key(b"", 4, bytes(4))], "is empty"),
        ([key(b"\xff", 4, bytes(4))], "is not text"),
        ([key(b"a", 13, bytes(4))], "'a' has the unknown type 13"),
        ([key(b"a", 9, struct.pack("<IQ", 9, 1))], "'a' is an array of the type 9"),
        ([key(b"a", 9, struct.pack("<IQ", 4, 2**61))], "in the middle of its header"),
        ([key(b"a", 9, struct.pack("<IQ", 8, 2**40))], "'a' claims to hold 1099511627776 strings"),
        ([key(b"general.alignment", 4, struct.pack("<I", 24))], "general.alignment is 24, not a power of two"),
        ([key(b"general.alignment", 4, struct.pack("<I", 0))], "general.alignment is 0"),
        ([key(b"general.alignment", 5, struct.pack("<i", 32))], "general.alignment is 32"),
    ],
)
def test_keys_that_cannot_be(keys: list[bytes], why: str, read: Callable[[bytes], Gguf]) -> None:
    with pytest.raises(UnusableModel, match=re.escape(why)):
        read(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))


def test_alignment_is_honoured(read: Callable[[bytes], Gguf], gguf_bytes: GgufBytes) -> None:
    header = read(gguf_bytes(general__alignment=256))
    assert header.data % 256 == 0 and header.tensors[1].offset == 2048


def test_random_damages_never_hurt(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    data = gguf_bytes()
    head = data.index(bytes(1) + b"output.weight") + 40
    refused = 0
    for seed in range(DAMAGES):
        chance = random.Random(seed)
        changed = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(head)
            changed[at : at + 1] = chance.choice([chance.randbytes(1), b"\xff" * 8, bytes(8), b"", chance.randbytes(3)])
        (tmp_path / "damaged.gguf").write_bytes(changed)
        begun = time.process_time()
        try:
            header = read_gguf(tmp_path / "damaged.gguf")
            facts(header, header.tensors)
        except BuilderFailure as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 500, seed
        assert time.process_time() - begun < 1, seed
    assert refused > DAMAGES // 2


def test_types_cover_the_current_ones() -> None:
    types = tables().types
    assert {"Q4_0", "Q4_K", "Q6_K", "IQ4_XS", "BF16", "TQ2_0", "MXFP4", "NVFP4"} <= {
        kind.name for kind in types.values()
    }
    assert types[39].block == 32 and types[39].size == 17 and types[40].block == 64 and types[40].size == 36
    assert {"llama", "qwen3", "gpt-oss", "gemma3"} <= tables().architectures and "clip" not in tables().architectures


def test_tables_are_those_of_the_pinned_source() -> None:
    from mkllm.builder.kit.pins import sdist
    from mkllm.builder.kit.sdist import fetch
    from mkllm.builder.model import upstream
    from mkllm.builder.model.tables import PATH

    assert upstream.tables(fetch(sdist("llama-cpp-python"))) == PATH.read_text()
