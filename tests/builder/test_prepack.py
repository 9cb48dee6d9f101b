"""Prepacked weights, with an engine that plays: what is written, what is refused, and what is left of a failure."""

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mkllm.builder.build import Made, Request, make
from mkllm.builder.cli import main
from mkllm.builder.errors import BuilderFailure, ToolFailed, UnusableModel
from mkllm.builder.kit import kit as kits
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.prepack import Prepacking, prepacking, undoing
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.extract import extract
from mkllm.runtime.artifact.manifest import PREPACKED, Defaults, Prepacked
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import Different, NoSpace

ENGINE = Path(__file__).parent.parent / "runtime" / "fake_engine.py"
QUIET = Output(True)
Play = Callable[..., None]
Build = Callable[[], Made]


@pytest.fixture
def kit(small_kit_with: Callable[..., Kit]) -> Kit:
    """Its engine plays, and its kernels are said to run here."""
    script = f"#!{sys.executable} -I\n{ENGINE.read_text()}".encode()
    modules = {f"members/native/libggml-cpu-{name}.so": name.encode() for name in ("x64", "zen4")}
    return small_kit_with({"members/native/mkllm-engine": script, **modules})


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    def tell(**config: object) -> None:
        (tmp_path / "play.json").write_text(json.dumps(config))
        monkeypatch.setenv("FAKE_ENGINE", str(tmp_path / "play.json"))

    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    return tell


@pytest.fixture
def build(kit: Kit, play: Play, small_gguf: Path, tmp_path: Path) -> Build:
    def building() -> Made:
        path = tmp_path / "out"
        request = Request(str(small_gguf), path, None, None, Defaults(), False, "x64")
        return make(path, kit, resolve(str(small_gguf), QUIET), request, QUIET, Prepacking(kit, "cpu-x64"))

    return building


def test_weights_are_ordered_and_come_back(build: Build, kit: Kit, small_gguf: Path, tmp_path: Path) -> None:
    made = build()
    plain = small_gguf.read_bytes()
    with open_artifact(made.path) as artifact:
        assert verify(artifact) == [] and artifact.manifest.prepacked == Prepacked("cpu-x64", len(plain))
        stored, weights = artifact.read(PREPACKED), artifact.weights
        assert stored[:8] == plain[:8] and stored[8 : len(plain)] == bytes(255 - byte for byte in plain[8:])
        assert weights.offset % 65536 == 0 and weights.size == len(plain) + 5
        engine = undoing_anywhere(kit)
        undo = lambda: engine.plain(artifact.fileno(), weights.offset, weights.size)  # noqa: E731
        assert extract(artifact, out=tmp_path / "back", restore=undo).read_bytes() == plain
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None and archive.namelist()[0] == "model.pack"


def undoing_anywhere(kit: Kit) -> Prepacking:
    return Prepacking(kit, kit.backends[0][0])


def test_the_same_bytes_each_time(build: Build) -> None:
    first = build().path
    data = first.read_bytes()
    first.unlink()
    assert build().path.read_bytes() == data


@pytest.mark.parametrize(
    ("config", "failure", "words"),
    [
        ({"prepack": "nothing"}, UnusableModel, "cpu-x64 takes these weights as they are: build without --prepack"),
        ({"prepack": "no space"}, NoSpace, "no space left in"),
        ({"prepack": "SIGILL"}, ToolFailed, "the engine dies of SIGILL"),
        ({"prepack": "exit 3"}, ToolFailed, "told to exit 3"),
        ({"prepack": "garbage"}, ToolFailed, "it says no JSON"),
        ({"in_place": False}, ToolFailed, "does not use the weights that were prepacked for it"),
        ({"restore": "otherwise"}, BuilderFailure, "are not the model's again when undone"),
        ({"restore": "SIGSEGV"}, ToolFailed, r"cannot be restored \(the engine dies of SIGSEGV\)"),
        ({"restore": "damaged"}, Different, r"cannot be restored \(the index is damaged\): copy the file again"),
    ],
)
def test_a_failure_leaves_nothing(
    build: Build,
    play: Play,
    tmp_path: Path,
    config: dict[str, object],
    failure: type[Exception],
    words: str,
) -> None:
    play(**config)
    with pytest.raises(failure, match=words):
        build()
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".", "out"))]


def test_an_engine_that_cannot_be_executed(build: Build, kit: Kit, tmp_path: Path) -> None:
    kit.engine.write_text("#!/nowhere/python\n")
    with pytest.raises(ToolFailed, match="mkllm-engine' cannot be executed"):
        build()
    assert not (tmp_path / "out").exists()


def test_only_kernels_of_the_kit_that_run_here(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kits, "host_flags", lambda: frozenset({"sse4_2"}))
    monkeypatch.setattr(Kit, "runs_here", True)
    assert prepacking(kit, "x64") == prepacking(kit, "cpu-x64") == Prepacking(kit, "cpu-x64")
    with pytest.raises(click.BadParameter, match=r"no kernel 'nehalem'; those that run on this machine: cpu-x64$"):
        prepacking(kit, "nehalem")
    with pytest.raises(click.BadParameter, match="cpu-zen4 does not run on this machine.*those that do: cpu-x64$"):
        prepacking(kit, "zen4")
    assert undoing(kit).kit is kit


def test_an_engine_of_another_system(kit: Kit) -> None:
    with pytest.raises(click.BadParameter, match="none: build without --prepack"):
        prepacking(kit, "x64")
    with pytest.raises(ToolFailed, match="extract them where it does"):
        undoing(kit)


def test_the_command_line_says_what_is_wrong(
    kit_cache: Path, small_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["build", str(small_gguf), "-o", str(tmp_path / "x"), "--prepack", "nonsense"])
    assert end.value.code == 2 and "the kit has no kernel 'nonsense'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
