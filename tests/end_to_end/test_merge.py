"""LoRA adapters merged into weights: predictions are those of the adapter applied at launch, and of transformers.

`nox -s convert` runs this: adapters as PEFT saves them are converted.
"""

import json
import struct
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from converting import MERGED, Mkllm, transformers
from converting import run as run
from predictions import divergence, predicted

from mkllm.builder.adapter import adapters
from mkllm.builder.convert.environment import environment
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.reader import open_artifact

QUIET = Output(True)
TAKEN = checkpoints.PIECES.index(("a", 1))
PROMPTS = [[1, 260, 261], [1, 270, 271, 272]]
SHAPE = checkpoints.Shape(width=64, feed_forward=128)
FLOAT32 = 6  # what GGUF calls the type of a value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, a model in 32 bits, and `adapter`."""
    made = tmp_path_factory.mktemp("merge")
    checkpoints.write(made / "base", shape=SHAPE)
    checkpoints.write_adapter(made / "adapter", SHAPE)
    return made


def predictions(serve: Any, artifact: Path, *words: str) -> list[dict[int, float]]:
    with serve(artifact, *words) as server:
        return [predicted(server.url, ids, SHAPE.vocabulary, TAKEN) for ids in PROMPTS]


def as_lists(found: list[dict[int, float]]) -> list[list[float]]:
    return [[one[number] for number in range(SHAPE.vocabulary)] for one in found]


def built(run: Mkllm, target: Path, *words: str | Path) -> Path:
    done = run("build", *words, "-o", target)
    assert done.returncode == 0, done.stderr
    return target


def test_in_32_bits(run: Mkllm, serve: Any, folder: Path, tmp_path: Path) -> None:
    """As with the adapter at launch, and as transformers with it merged; half as strong is something else."""
    lora = ("--lora", folder / "adapter")
    applied = predictions(serve, built(run, tmp_path / "applied", folder / "base", *lora))
    merged = built(run, tmp_path / "merged", folder / "base", *lora, "--merge-lora")
    plain = predictions(serve, built(run, tmp_path / "plain", folder / "base"))
    wanted = transformers(environment(QUIET), MERGED, folder / "base", PROMPTS)
    triples = zip(as_lists(applied), wanted, predictions(serve, merged), plain, strict=True)
    for at_launch, reference, found, without in triples:
        assert divergence(at_launch, found) < 1e-5 and divergence(reference, found) < 1e-5
        assert divergence(at_launch, without) > 1e-3
    with open_artifact(merged) as artifact:
        assert artifact.manifest.adapters == () and artifact.manifest.options["merge-lora"] is True
    half = built(run, tmp_path / "half", folder / "base", *lora, "--merge-lora", "--lora-scale", "0.5")
    (gguf,) = adapters([folder / "adapter"], str(folder / "base"), "llama", QUIET).values()
    scaled = predictions(serve, tmp_path / "plain", "--", "--lora-scaled", f"{gguf}:0.5")
    for at_launch, found, whole in zip(as_lists(scaled), predictions(serve, half), applied, strict=True):
        assert divergence(at_launch, found) < 1e-5 < divergence(at_launch, whole)
    recipe = run("inspect", "--recipe", half).stdout
    assert "\nmerge-lora = true\n" in recipe and "\nlora-scale = 0.5\n" in recipe
    text = recipe.replace('"adapter"', json.dumps(str(folder / "adapter"))).replace(
        'output = "half"', 'output = "again"'
    )
    (tmp_path / "mkllm.toml").write_text(text.replace('model = "base"', f"model = {json.dumps(str(folder / 'base'))}"))
    assert run("build", "-f", tmp_path / "mkllm.toml").returncode == 0
    assert (tmp_path / "again").read_bytes() == half.read_bytes()


@pytest.mark.parametrize(("kind", "most"), [("F16", 1e-5), ("Q8_0", 1e-3), ("Q4_0", 0.1)])
def test_in_fewer_bits(run: Mkllm, serve: Any, folder: Path, tmp_path: Path, kind: str, most: float) -> None:
    """A GGUF of that type keeps it; what is rounded is seen, and no more."""
    built(run, tmp_path / "some", folder / "base", "--quant", kind)
    assert run("extract", tmp_path / "some", "-o", tmp_path / "some.gguf").returncode == 0
    (gguf,) = adapters([folder / "adapter"], str(folder / "base"), "llama", QUIET).values()
    applied = predictions(serve, built(run, tmp_path / "applied", tmp_path / "some.gguf", "--lora", gguf))
    done = run("build", tmp_path / "some.gguf", "--lora", gguf, "--merge-lora", "-o", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert ("is quantized again, and loses more" in done.stderr) == (kind != "F16")
    for at_launch, found in zip(as_lists(applied), predictions(serve, tmp_path / "merged"), strict=True):
        assert divergence(at_launch, found) < most
    assert run("extract", tmp_path / "merged", "-o", tmp_path / "merged.gguf").returncode == 0
    before, after = read_gguf(tmp_path / "some.gguf"), read_gguf(tmp_path / "merged.gguf")
    assert before.tensors == after.tensors and before.size == after.size


def test_an_adapter_without_alpha_is_taken_as_it_is(run: Mkllm, serve: Any, folder: Path, tmp_path: Path) -> None:
    (gguf,) = adapters([folder / "adapter"], str(folder / "base"), "llama", QUIET).values()
    key = b"adapter.lora.alpha" + struct.pack("<I", FLOAT32)
    before, after = (key + struct.pack("<f", alpha) for alpha in (16, 0))
    assert gguf.read_bytes().count(before) == 1
    (tmp_path / "own.gguf").write_bytes(gguf.read_bytes().replace(before, after))
    lora = ("--lora", tmp_path / "own.gguf")
    applied = predictions(serve, built(run, tmp_path / "applied", folder / "base", *lora))
    merged = predictions(serve, built(run, tmp_path / "merged", folder / "base", *lora, "--merge-lora"))
    plain = predictions(serve, built(run, tmp_path / "plain", folder / "base"))
    for at_launch, found, without in zip(as_lists(applied), merged, plain, strict=True):
        assert divergence(at_launch, found) < 1e-5 < 1e-4 < divergence(at_launch, without)


def test_several_adapters_are_rounded_once(run: Mkllm, serve: Any, folder: Path, tmp_path: Path) -> None:
    (gguf,) = adapters([folder / "adapter"], str(folder / "base"), "llama", QUIET).values()
    (tmp_path / "other.gguf").write_bytes(gguf.read_bytes())
    both = ("--lora", gguf, "--lora", tmp_path / "other.gguf")
    applied = predictions(serve, built(run, tmp_path / "applied", folder / "base", *both))
    merged = predictions(serve, built(run, tmp_path / "merged", folder / "base", *both, "--merge-lora"))
    for at_launch, found in zip(as_lists(applied), merged, strict=True):
        assert divergence(at_launch, found) < 1e-5
    built(run, tmp_path / "q4", folder / "base", "--quant", "Q4_0")
    assert run("extract", tmp_path / "q4", "-o", tmp_path / "q4.gguf").returncode == 0
    half = ("--merge-lora", "--lora-scale", "0.5")
    built(run, tmp_path / "halves", tmp_path / "q4.gguf", *both, *half)
    built(run, tmp_path / "whole", tmp_path / "q4.gguf", "--lora", gguf, "--merge-lora")
    weights = []
    for name in ("halves", "whole"):
        with open_artifact(tmp_path / name) as artifact:
            weights.append(artifact.weights.sha256)
    assert weights[0] == weights[1]  # as strong together, so that the same is rounded


def test_the_model_itself_is_not_overwritten(run: Mkllm, folder: Path, tmp_path: Path) -> None:
    built(run, tmp_path / "some", folder / "base")
    assert run("extract", tmp_path / "some", "-o", tmp_path / "some.gguf").returncode == 0
    before = (tmp_path / "some.gguf").read_bytes()
    (gguf,) = adapters([folder / "adapter"], str(folder / "base"), "llama", QUIET).values()
    done = run("build", tmp_path / "some.gguf", "--lora", gguf, "--merge-lora", "--force", "-o", tmp_path / "some.gguf")
    assert done.returncode != 0 and "is the model itself" in done.stderr
    assert (tmp_path / "some.gguf").read_bytes() == before


def test_merged_then_quantized(run: Mkllm, folder: Path, tmp_path: Path) -> None:
    built(run, tmp_path / "out", folder / "base", "--lora", folder / "adapter", "--merge-lora", "--quant", "Q8_0")
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.manifest.model.quantization == "Q8_0" and artifact.manifest.adapters == ()


def test_what_is_another_model_s(run: Mkllm, folder: Path, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "narrow", shape=checkpoints.Shape())
    done = run("build", tmp_path / "narrow", "--lora", folder / "adapter", "--merge-lora", "-o", tmp_path / "out")
    assert done.returncode == 55 and "which is 32x32: name the model that it was trained on" in done.stderr
    assert not (tmp_path / "out").exists()
