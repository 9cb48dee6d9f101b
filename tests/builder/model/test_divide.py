"""A GGUF in several files: as llama.cpp splits them, and the same model again when they are put together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.errors import TooLarge
from mkllm.builder.model.divide import Division, divide, header_of, undivided
from mkllm.builder.model.reference import DEMO_FILE
from mkllm.builder.model.split import merged, read_parts
from mkllm.builder.model.weights import Weights

GgufBytes = Callable[..., bytes]


def write(division: Division, model: bytes, folder: Path) -> list[Path]:
    """The files, and a look at their sizes."""
    count, paths = len(division.parts), []
    for number, part in enumerate(division.parts, 1):
        paths.append(folder / f"m-{number:05}-of-{count:05}.gguf")
        paths[-1].write_bytes(part.header + model[part.start : part.end])
        assert paths[-1].stat().st_size == part.size
    return paths


@pytest.mark.parametrize("most", [5_000, 7_000, 12_000])
def test_parts_are_the_model_again(tmp_path: Path, gguf_bytes: GgufBytes, most: int) -> None:
    model = gguf_bytes(tensors={f"blk.{i}.w": ((64, 10 + i), 8 if i % 2 else 0) for i in range(7)})
    division = divide(Weights((model,)), Path("m.gguf"), most)
    paths = write(division, model, tmp_path)
    assert len(paths) > 1 and all(path.stat().st_size <= most for path in paths)
    joined = model[: division.header] + b"".join(model[part.start : part.end] for part in division.parts)
    assert joined == model
    parts = read_parts(paths[1])  # checks numbers, counts and that no tensor is missing
    assert merged(parts).read(0, len(model) + 1) == model


def test_the_demo_model(tmp_path: Path) -> None:
    model = DEMO_FILE.read_bytes()
    paths = write(divide(Weights((model,)), DEMO_FILE, 600_000), model, tmp_path)
    assert len(paths) == 3 and merged(read_parts(paths[0])).read(0, len(model)) == model


def test_alignment_is_in_every_part_and_the_rest_in_the_first(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    model = gguf_bytes(general__alignment=64, tensors={"a": ((64, 30), 8), "b": ((65,), 0), "c": ((64, 30), 8)})
    first, second = read_parts(write(divide(Weights((model,)), Path("m"), 3_200), model, tmp_path)[0])
    assert first.alignment == second.alignment == 64
    assert first.text("general.name") == "Small Test" and second.text("general.name") is None


def test_what_lies_behind_the_last_tensor_is_kept(tmp_path: Path, gguf_bytes: GgufBytes) -> None:
    model = gguf_bytes() + b"behind"
    division = divide(Weights((model,)), Path("m"), 3_500)
    assert division.parts[-1].end == len(model)
    assert write(division, model, tmp_path)[-1].read_bytes().endswith(b"behind")


def test_a_model_that_was_a_part_says_it_no_more(gguf_bytes: GgufBytes) -> None:
    whole = header_of(Weights((gguf_bytes(split__count=1, split__no=0),)), Path("m"))
    assert whole.integer("split.count") == 1
    division = divide(Weights((gguf_bytes(split__count=1, split__no=0),)), Path("m"), 3_500)
    assert division.parts[0].header.count(b"split.count") == 1


def test_too_small(gguf_bytes: GgufBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        TooLarge, match=r"'m.gguf' cannot be divided into files of 1.00 kB: its tensor 'token_embd.weight'"
    ):
        divide(Weights((gguf_bytes(),)), Path("m.gguf"), 1_000)
    monkeypatch.setattr("mkllm.builder.model.divide.MAX_PARTS", 3)
    many = gguf_bytes(tensors={f"t{i}": ((320,), 8) for i in range(40)})
    with pytest.raises(TooLarge, match="would be [0-9]+ files of 2.00 kB"):
        divide(Weights((many,)), Path("m.gguf"), 2_000)


def test_undivided() -> None:
    assert undivided(Weights((b"abc",))).parts[0].size == 3 and undivided(Weights((b"abc",))).header == 0
