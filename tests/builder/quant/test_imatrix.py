"""Importance matrices as files: written, read back, and told apart from what is none."""

import struct
from pathlib import Path

import pytest

from mkllm.builder.errors import UnusableModel
from mkllm.builder.quant import imatrix

MATRIX = {"blk.0.ffn_up.weight": ([8.0, 2.0, 4.0], [4]), "blk.0.ffn_up_exps.weight": ([1.0, 3.0, 5.0, 7.0], [2, 0])}


def dat(*entries: tuple[str, int, list[float]]) -> bytes:
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values))
        data += struct.pack(f"<{len(values)}f", *values)
    return data


def test_means_of_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    imatrix.write(path, MATRIX, 3, 512, "text.txt")
    found = {name: list(values) for name, values in imatrix.read(path).items()}
    assert found == {
        "blk.0.ffn_up.weight": [2.0, 0.5, 1.0],
        "blk.0.ffn_up_exps.weight": [0.5, 1.5, 1.0, 1.0],  # the second expert was never used
    }


def test_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    imatrix.write(one, MATRIX, 3, 512, "text.txt")
    imatrix.write(two, dict(reversed(MATRIX.items())), 3, 512, "text.txt")
    assert one.read_bytes() == two.read_bytes()


def test_another_library_reads_it(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "m.gguf"
    imatrix.write(path, MATRIX, 3, 512, "text.txt")
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor.data.ravel().tolist() for tensor in reader.tensors}
    assert tensors["blk.0.ffn_up.weight.in_sum2"] == [8.0, 2.0, 4.0]
    assert tensors["blk.0.ffn_up_exps.weight.counts"] == [2.0, 0.0]
    assert reader.fields["imatrix.chunk_count"].contents() == 3
    assert reader.fields["imatrix.datasets"].contents() == ["text.txt"]


def test_the_older_format(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat(("blk.0.a.weight", 2, [4.0, 6.0]), ("blk.0.b.weight", 0, [1.0])))
    assert {name: list(values) for name, values in imatrix.read(path).items()} == {
        "blk.0.a.weight": [2.0, 3.0],
        "blk.0.b.weight": [1.0],
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack("<i", 1 << 30),
        dat(("blk.0.a.weight", 2, [4.0, 6.0]))[:-1],
        struct.pack("<iii", 1, -5, 0),
        dat(("blk.0.a.weight", 1, [float("nan")])),
    ],
)
def test_what_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(data)
    with pytest.raises(UnusableModel, match="m.dat' is no importance matrix .*name a text"):
        imatrix.read(path)


def test_a_model_is_none(small_gguf: Path) -> None:
    with pytest.raises(UnusableModel, match="GGUF file of something else"):
        imatrix.read(small_gguf)
