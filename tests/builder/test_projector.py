"""Projectors: checked against their model, members of the file, told by its recipe; found by themselves or left out."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder import projector
from mkllm.builder.build import Request, build
from mkllm.builder.cached import cached_artifact
from mkllm.builder.errors import ModelNotFound, TooLarge, UnusableProjector
from mkllm.builder.model.gguf import read_gguf
from mkllm.builder.placing import MARGIN, Limits
from mkllm.builder.progress import Output
from mkllm.builder.projector import NONE, _why, width
from mkllm.runtime.artifact.manifest import PROJECTOR, Defaults, Manifest
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.recipe import recipe
from mkllm.runtime.artifact.verify import verify

QUIET = Output(True)
WIDE = 64  # numbers for each position
TENSORS = {"mm.input_projection.weight": ((64, 32), 0)}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, gguf_bytes: Any) -> Write:
    def writing(name: str, dimension: int, keys: Mapping[str, object] = {}) -> Path:
        told = {"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True}
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gguf_bytes({**told, "clip.vision.projection_dim": dimension, **keys}, TENSORS))
        return path

    return writing


@pytest.fixture
def model(tmp_path: Path, gguf_bytes: Any) -> Path:
    place = tmp_path / "models" / "small.gguf"
    place.parent.mkdir()
    place.write_bytes(gguf_bytes(llama__embedding_length=WIDE))
    return place


def made(path: Path, model: Path, projector: Path | str | None) -> Manifest:
    build(Request(str(model), path, None, None, Defaults(), True, projector=projector), QUIET)
    with open_artifact(path) as artifact:
        assert list(verify(artifact)) == []
        return artifact.manifest


def test_it_is_in_the_artifact(tmp_path: Path, kit_cache: Path, model: Path, write: Write) -> None:
    projector = write("eyes.gguf", WIDE, {"clip.has_audio_encoder": True})
    found = made(tmp_path / "out", model, projector)
    assert found.projector and (found.projector.file, found.projector.vision, found.projector.audio) == (
        "eyes.gguf", True, True,
    )  # fmt: skip
    assert found.projector.memory >= 64 * 32 * 4 and found.options == {}
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.read(PROJECTOR) == projector.read_bytes()
    assert made(tmp_path / "other", model, NONE).projector is None


def test_what_lies_beside_the_model_is_taken(
    tmp_path: Path, kit_cache: Path, model: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("Q8_0", "f32", "F16", "BF16"):
        write(f"models/mmproj-small-{kind}.gguf", WIDE)
    request = Request(str(model), tmp_path / "out", None, None, Defaults(), False)
    build(request, Output())
    assert "note: it takes pictures, by 'mmproj-small-F16.gguf' (" in capsys.readouterr().err
    with open_artifact(tmp_path / "out") as artifact:
        manifest, told = artifact.manifest, recipe(artifact, "out")
    assert manifest.projector and manifest.projector.file == "mmproj-small-F16.gguf"
    assert '\nmmproj = "mmproj-small-F16.gguf"\n' in told
    again = tmp_path / "again"
    named = Request(
        str(model), again, None, None, Defaults(), False, projector=model.with_name("mmproj-small-F16.gguf"),
        options={"mmproj": "mmproj-small-F16.gguf"},
    )  # fmt: skip
    build(named, QUIET)
    assert again.read_bytes() == (tmp_path / "out").read_bytes()
    assert made(tmp_path / "none", model, NONE).projector is None
    model.with_name("other-model.gguf").write_bytes(model.read_bytes())
    assert made(tmp_path / "two", model, None).projector is None  # whose it is, nobody knows


def test_one_that_does_not_fit(
    tmp_path: Path,
    kit_cache: Path,
    model: Path,
    write: Write,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = write("other.gguf", WIDE * 2)
    made(tmp_path / "unasked", model, other)  # no header says it for sure
    told = {"width": WIDE * 2, "bytes": 1, "vision": True, "audio": False}
    monkeypatch.setattr(projector, "_asked", lambda kit, found: told)
    with pytest.raises(UnusableProjector, match=f"makes {WIDE * 2} numbers of each .* 'small' takes {WIDE}") as raised:
        made(tmp_path / "out", model, other)
    assert raised.value.exit_code == 56 and not (tmp_path / "out").exists()
    other.rename(model.with_name("mmproj-F16.gguf"))
    build(Request(str(model), tmp_path / "out", None, None, Defaults(), False), Output())
    assert "warning: without pictures and sound: 'mmproj-F16.gguf' makes" in capsys.readouterr().err
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.manifest.projector is None


def test_what_is_none(tmp_path: Path, kit_cache: Path, model: Path, write: Write) -> None:
    with pytest.raises(UnusableProjector, match="small.gguf' is no projector: name a GGUF file that is called mmproj"):
        made(tmp_path / "out", model, model)
    with pytest.raises(ModelNotFound, match="there is no file"):
        made(tmp_path / "out", model, tmp_path / "nothing.gguf")
    short = write("short.gguf", WIDE)
    short.write_bytes(short.read_bytes()[:-100])
    with pytest.raises(UnusableProjector, match="damaged or truncated .* --mmproj none leaves it out"):
        made(tmp_path / "out", model, short)


def test_what_the_engine_says_of_it() -> None:
    told = (
        "clip_init: failed to load model '/a/b.gguf': load_hparams: unknown projector type: x\n\nmkllm-engine: none\n"
    )
    assert _why(1, told) == "unknown projector type: x"
    assert _why(1, "mkllm-engine: the file holds none\n") == "mkllm-engine: the file holds none"
    assert (
        _why(-6, "ggml.c:12: GGML_ASSERT(x) failed\n") == "it dies of SIGABRT" and _why(1, "\n") == "it gives no reason"
    )


def test_deep_layers_count(gguf_bytes: Any, tmp_path: Path) -> None:
    keys = {"general.architecture": "qwen3vl", "qwen3vl.embedding_length": 64, "qwen3vl.n_deepstack_layers": 3}
    (tmp_path / "deep.gguf").write_bytes(gguf_bytes(keys, TENSORS))
    assert width(read_gguf(tmp_path / "deep.gguf")) == 256


def test_a_file_beside_the_model_that_is_none_stops_no_build(
    tmp_path: Path, kit_cache: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.with_name("mmproj-F16.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    build(Request(str(model), tmp_path / "out", None, None, Defaults(), False), Output())
    said = capsys.readouterr().err
    assert "warning: without pictures and sound: " in said and "--mmproj none leaves it out" in said
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.manifest.projector is None


def test_it_counts_where_one_file_is_to_hold_all(tmp_path: Path, kit_cache: Path, model: Path, gguf_bytes: Any) -> None:
    made(tmp_path / "plain", model, NONE)
    limits = Limits(file=(tmp_path / "plain").stat().st_size + MARGIN)
    eyes = tmp_path / "eyes.gguf"
    told = {"general.architecture": "clip", "clip.has_vision_encoder": True}
    eyes.write_bytes(gguf_bytes(told, {"mm.input_projection.weight": ((64, 1024), 0)}))
    for wanted, fits in ((NONE, True), (eyes, False)):
        request = Request(
            str(model), tmp_path / "out", None, None, Defaults(), True, limits=limits, fit_one_file=True,
            projector=wanted,
        )  # fmt: skip
        with contextlib.nullcontext() if fits else pytest.raises(TooLarge, match="fit into one file"):
            build(request, QUIET)


def test_what_run_makes_has_it_too(kit_cache: Path, model: Path, write: Write) -> None:
    write("models/mmproj-small-F16.gguf", WIDE)
    with open_artifact(cached_artifact(str(model), QUIET)) as artifact:
        assert artifact.manifest.projector and artifact.manifest.projector.file == "mmproj-small-F16.gguf"
