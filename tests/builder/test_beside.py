"""Weights beside programs, and several programs of one model: written together or not at all."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mkllm.builder import build as building
from mkllm.builder import outputs
from mkllm.builder.build import Made, Request, build_all, make, make_all
from mkllm.builder.commands.inspect import inspect
from mkllm.builder.errors import NoSpace, TargetExists, TooLarge
from mkllm.builder.kit.exe_resources import default_icon
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.target import TARGETS, Target
from mkllm.builder.model.divide import divide
from mkllm.builder.model.reference import resolve
from mkllm.builder.placing import Limits
from mkllm.builder.progress import Output
from mkllm.builder.report import report
from mkllm.builder.target import check_path
from mkllm.runtime import errors
from mkllm.runtime.artifact.copy import Copier
from mkllm.runtime.artifact.description import floor
from mkllm.runtime.artifact.draft import Draft, remove_replaced
from mkllm.runtime.artifact.extract import extract
from mkllm.runtime.artifact.manifest import HEADER, WEIGHTS, Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify

from .kit.windows_samples import program

QUIET = Output(True)
ALWAYS = Limits("always")
Build = Callable[..., Made]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def build(small_kit: Kit, small_gguf: Path, tmp_path: Path) -> Build:
    def building(name: str = "out", model: Path = small_gguf, limits: Limits = ALWAYS, force: bool = False) -> Made:
        request = Request(str(model), tmp_path / name, None, None, Defaults(), force, limits=limits)
        return make(tmp_path / name, small_kit, resolve(str(model), QUIET), request, QUIET)

    return building


@pytest.fixture
def windows_kit(small_kit_with: Callable[[Mapping[str, bytes]], Kit], tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The same kit with a program for Windows."""
    made = small_kit_with({"bootloader": program(["kernel32.dll"])}).path
    place = made.rename(tmp_path_factory.mktemp("windows") / "kit")
    return replace(Kit.read(place), target="windows-x86_64")


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of weights may have 3500 bytes."""
    monkeypatch.setattr(building, "division", lambda weights, path, limits, packed: divide(weights, path, 3_500))


def test_a_pair(build: Build, small_gguf: Path, tmp_path: Path) -> None:
    made = build()
    assert made.beside == (tmp_path / "out.weights",)
    assert (tmp_path / "out.weights").read_bytes() == small_gguf.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out", "out.weights"]
    with open_artifact(made.path) as artifact:
        assert verify(artifact) == [] and artifact.manifest == made.manifest
        assert WEIGHTS not in [member.name for member in artifact.manifest.members]
        assert artifact.weights.size == small_gguf.stat().st_size
        assert artifact.manifest.beside[0].sha256 == artifact.manifest.provenance.sha256
        assert extract(artifact, out=tmp_path / "again").read_bytes() == small_gguf.read_bytes()


def test_several_files(build: Build, small_gguf: Path, tmp_path: Path, in_parts: None) -> None:
    made = build("m.EXE")
    names = ["m.weights-00001-of-00002.gguf", "m.weights-00002-of-00002.gguf"]
    assert [path.name for path in made.beside] == names
    with open_artifact(made.path) as artifact:
        assert verify(artifact) == [] and artifact.manifest.members[0].name == HEADER
        assert artifact.weights.size == small_gguf.stat().st_size
        assert extract(artifact, out=tmp_path / "again").read_bytes() == small_gguf.read_bytes()
    from mkllm.builder.model.split import merged, read_parts

    assert merged(read_parts(made.beside[0])).read(0, 1 << 20) == small_gguf.read_bytes()  # other tools read them


@pytest.mark.parametrize("parts", [False, True])
def test_the_same_inputs_give_the_same_bytes(
    build: Build, tmp_path: Path, parts: bool, request: pytest.FixtureRequest
) -> None:
    if parts:
        request.getfixturevalue("in_parts")
    first = build()
    kept = [path.read_bytes() for path in (first.path, *first.beside)]
    for path in (first.path, *first.beside):
        path.unlink()
    second = build()
    assert [path.read_bytes() for path in (second.path, *second.beside)] == kept


def test_existing_files_are_not_replaced_unasked(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out.weights").write_text("mine")
    with pytest.raises(TargetExists, match="'.*out.weights' exists already"):
        build()
    assert os.listdir(tmp_path) == ["out.weights"] and (tmp_path / "out.weights").read_text() == "mine"
    build(force=True)
    with open_artifact(tmp_path / "out") as artifact:
        assert verify(artifact) == []


def test_the_model_is_not_overwritten(build: Build, small_gguf: Path, tmp_path: Path) -> None:
    shutil.copy(small_gguf, tmp_path / "out.weights")
    os.link(tmp_path / "out.weights", tmp_path / "model.gguf")
    with pytest.raises(TargetExists, match="is the model itself"):
        build(model=tmp_path / "model.gguf", force=True)


@pytest.mark.parametrize("step", range(5))
def test_a_failure_while_files_appear_leaves_all_as_it_was(
    build: Build, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int,
    gguf_bytes: Callable[..., bytes],
) -> None:  # fmt: skip
    """Whichever of the renames fails: two set aside, two into place."""
    old = build()
    before = {path: path.read_bytes() for path in (old.path, *old.beside)}
    (tmp_path / "m").mkdir()
    other = tmp_path / "m" / "other.gguf"
    other.write_bytes(gguf_bytes(seed=7))
    renamed: list[tuple[str, str]] = []
    rename = os.replace

    def failing(source: str | Path, target: str | Path) -> None:
        if Path(target).parent == tmp_path:
            renamed.append((str(source), str(target)))
            if len(renamed) == step + 1:
                raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    if step < 4:
        with pytest.raises(Exception, match="no space left"):
            build(model=other, force=True)
        assert {path: path.read_bytes() for path in before} == before
    else:
        build(model=other, force=True)
        assert len(renamed) == 4 and Path(renamed[0][0]) == old.path  # the old program goes first
        assert Path(renamed[-1][1]) == old.path  # and the new one comes last
    assert sorted(os.listdir(tmp_path)) == ["m", "out", "out.weights"]


def killed(name: str, text: str) -> Path:
    """A file that a build, which is gone, had set aside."""
    path = Path(name)
    aside = path.with_name(f".{path.name}.999999999.replaced")
    aside.write_text(text)
    return aside


def test_what_a_killed_build_had_set_aside_comes_back(build: Build, tmp_path: Path) -> None:
    asides = [killed(str(tmp_path / name), "mine") for name in ("out", "out.weights")]
    (tmp_path / "out.weights").write_text("new")
    with pytest.raises(TargetExists, match="'.*out' exists already"):
        check_path(tmp_path / "out", False)
    assert (tmp_path / "out").read_text() == "mine" and not asides[0].exists()
    assert (tmp_path / "out.weights").read_text() == "new" and asides[1].read_text() == "mine"
    build(force=True)
    assert sorted(os.listdir(tmp_path)) == ["out", "out.weights"]


def test_what_a_running_build_has_set_aside_stays(tmp_path: Path) -> None:
    running = tmp_path / f".out.{os.getppid()}.replaced"
    running.write_text("another's")
    check_path(tmp_path / "out", False)
    remove_replaced(tmp_path / "out")
    assert os.listdir(tmp_path) == [running.name]


@pytest.mark.parametrize("moment", ["settle", "set_aside", "appear"])
@pytest.mark.parametrize("name", ["out", "out.weights"])
def test_what_somebody_else_makes_meanwhile_stays(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, name: str
) -> None:
    """Whenever it is made before the rename, without --force."""
    original = getattr(Draft, moment)

    def meanwhile(self: Draft, *words: object) -> None:
        original(self, *words) if moment != "appear" else None
        if self.target.name == name:
            self.target.write_text("somebody else's")
        original(self) if moment == "appear" else None

    monkeypatch.setattr(Draft, moment, meanwhile)
    with pytest.raises(errors.TargetExists, match=f"'.*{name}' was made by somebody else meanwhile"):
        build()
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "somebody else's"


@pytest.mark.parametrize("step", range(4))
def test_a_signal_between_renames_comes_after_them(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    build()
    renamed: list[str] = []
    rename = os.replace

    def interrupted(source: str | Path, target: str | Path) -> None:
        rename(source, target)
        if Path(target).parent == tmp_path:
            renamed.append(str(target))
            if len(renamed) == step + 1:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(force=True)
    assert len(renamed) == 4
    with open_artifact(tmp_path / "out") as artifact:
        assert verify(artifact) == []


@pytest.mark.parametrize("what", ["weights", "program"])
def test_a_failure_while_writing_leaves_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    copied = Copier.copy
    calls: list[int] = []

    def failing(self: Copier, source: int, offset: int, size: int, at: int) -> None:
        calls.append(size)
        if len(calls) == {"weights": 1, "program": 3}[what]:
            raise OSError(28, "No space left on device")
        copied(self, source, offset, size, at)

    monkeypatch.setattr(Copier, "copy", failing)
    with pytest.raises(Exception, match="no space left"):
        build()
    assert os.listdir(tmp_path) == []


def test_a_limit_makes_two_files_and_says_so(
    small_kit: Kit, tmp_path: Path, gguf_bytes: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "big.gguf"
    model.write_bytes(gguf_bytes(tensors={"a": ((1024, 1024), 0), "b": ((1024, 1024), 0)}))
    request = Request(str(model), tmp_path / "out", None, None, Defaults(), False, limits=Limits(file=5_000_000))
    made = make(tmp_path / "out", small_kit, resolve(str(model), QUIET), request, Output())
    told = capsys.readouterr().err
    assert "note: one file would have 8.5" in told and "--max-file-size allows 5.00 MB" in told
    assert "'out.weights-00001-of-00002.gguf' and 'out.weights-00002-of-00002.gguf' lie beside" in told
    assert "a smaller quantization (--quant) would do" in told
    assert all(path.stat().st_size <= 5_000_000 for path in (made.path, *made.beside))
    with open_artifact(made.path) as artifact:
        assert verify(artifact) == []


def test_windows_has_a_limit_of_its_own(
    windows_kit: Kit, small_kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs in one run: where the weights have to be beside one of them, the other may have them inside."""
    windows = TARGETS["windows-x86_64"]
    assert windows.largest_program == 4 * 1024**3 - 1
    monkeypatch.setitem(TARGETS, windows.name, replace(windows, largest_program=(1 << 20) + 300_000))
    model = tmp_path / "m.gguf"
    shutil.copy(small_gguf, model)
    os.truncate(model, 400_000)
    request = Request(str(model), None, None, None, Defaults(), False)
    places = [(tmp_path / "m-linux", small_kit), (tmp_path / "m-windows.exe", windows_kit)]
    made = make_all(places, tmp_path / "m", resolve(str(model), QUIET), request, QUIET)
    assert made[0].beside == () and made[1].beside == (tmp_path / "m.weights",)
    for one in made:
        with open_artifact(one.path) as artifact:
            assert (
                verify(artifact) == [] and extract(artifact, out=tmp_path / "x", force=True).stat().st_size == 400_000
            )


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_what_a_program_needs_is_told_alike(target: Target) -> None:
    """The table of targets stays home; an artifact tells it too."""
    assert floor(target.name, "2.17") == target.floor("2.17")


def test_what_a_program_for_windows_needs(windows_kit: Kit, small_gguf: Path, tmp_path: Path) -> None:
    """Not the C library of another system, whatever the kit says of one."""
    request = Request(str(small_gguf), None, None, None, Defaults(), False)
    made = make(tmp_path / "m.exe", windows_kit, resolve(str(small_gguf), QUIET), request, QUIET)
    shown = CliRunner().invoke(inspect, [str(made.path)]).stdout
    assert "windows-x86_64, Windows 10 or newer" in shown and "glibc" not in shown
    assert report(made)["floor"] == "Windows 10"


def test_too_large_after_all(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was reckoned before was wrong: nothing is left, and it is said."""
    monkeypatch.setattr(building, "is_beside", lambda *_: False)
    with pytest.raises(
        TooLarge, match="'.*out' would have .* --max-file-size allows 5.00 kB: build with --split always"
    ):
        build(limits=Limits(file=5_000))
    assert os.listdir(tmp_path) == []


class TestSeveral:
    @pytest.fixture
    def several(
        self, small_kit: Kit, windows_kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., tuple[Made, ...]]:
        kits = {"linux-x86_64": small_kit, "windows-x86_64": windows_kit}
        monkeypatch.setattr(building, "check_system", lambda system, path: system)
        monkeypatch.setattr(building, "find_kit", kits.__getitem__)

        def making(folder: str = "dir", **changes: object) -> tuple[Made, ...]:
            request = Request(str(small_gguf), tmp_path / folder, None, None, Defaults(), False)
            return build_all(replace(request, **changes), list(kits), QUIET)  # type: ignore[arg-type]

        return making

    def test_names_and_contents(self, several: Callable[..., tuple[Made, ...]], tmp_path: Path) -> None:
        made = several(name="my/model")
        assert sorted(os.listdir(tmp_path / "dir")) == ["my_model-linux-x86_64", "my_model-windows-x86_64.exe"]
        for one, target in zip(made, ("linux-x86_64", "windows-x86_64"), strict=True):
            with open_artifact(one.path) as artifact:
                assert verify(artifact) == [] and artifact.manifest.target == target

    def test_they_share_the_weights(self, several: Callable[..., tuple[Made, ...]], tmp_path: Path) -> None:
        made = several(limits=ALWAYS)
        names = ["small-linux-x86_64", "small-windows-x86_64.exe", "small.weights"]
        assert sorted(os.listdir(tmp_path / "dir")) == names
        for one in made:
            assert one.beside == (tmp_path / "dir" / "small.weights",)
            with open_artifact(one.path) as artifact:
                assert verify(artifact) == []

    def test_the_model_is_read_once(
        self, several: Callable[..., tuple[Made, ...]], small_gguf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is read to be hashed; the other file gets what is in memory by then."""
        sizes: dict[str, list[int]] = {"copy": [], "move": []}
        for name, noted in sizes.items():
            original = getattr(Copier, name)

            def noting(
                self: Copier,
                source: int,
                offset: int,
                size: int,
                at: int,
                *,
                do: object = original,
                to: list[int] = noted,
            ) -> None:
                to.append(size)
                do(self, source, offset, size, at)  # type: ignore[operator]

            monkeypatch.setattr(Copier, name, noting)
        several()
        size = small_gguf.stat().st_size
        assert sizes["copy"].count(size) == 1 and sizes["move"] == [size]

    def test_all_or_nothing(
        self, several: Callable[..., tuple[Made, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        appear = Draft.appear
        seen: list[Draft] = []

        def failing(self: Draft) -> None:
            seen.append(self)
            if len(seen) == 2:
                raise NoSpace("no space")
            appear(self)

        monkeypatch.setattr(Draft, "appear", failing)
        with pytest.raises(NoSpace):
            several()
        assert os.listdir(tmp_path) == []  # the folder was made for them

    def test_an_existing_file_is_refused_before(self, several: Callable[..., tuple[Made, ...]], tmp_path: Path) -> None:
        (tmp_path / "dir").mkdir()
        (tmp_path / "dir" / "small-windows-x86_64.exe").write_text("mine")
        with pytest.raises(TargetExists, match="small-windows-x86_64.exe' exists already"):
            several()
        assert os.listdir(tmp_path / "dir") == ["small-windows-x86_64.exe"]

    def test_a_folder_that_cannot_be_made(self, several: Callable[..., tuple[Made, ...]], tmp_path: Path) -> None:
        with pytest.raises(Exception, match="there is no folder '.*none'"):
            several("none/dir")

    @pytest.mark.parametrize(
        ("folder", "changes", "why"),
        [
            ("file", {}, "file' is not a folder, and several files are to be made: name one with -o"),
            ("none/dir", {}, "none/dir' cannot be written: there is no folder '.*none'; create it first"),
            ("x" * 256, {}, "cannot be written .file name too long.: choose another place"),
            ("there", {"name": "a"}, "a-windows-x86_64.exe' exists already"),
            ("there", {"force": False}, "small-linux-x86_64' exists already"),
            ("there", {"icon": Path("none.ico"), "force": True}, "the icon 'none.ico' cannot be used: No such file"),
        ],
    )
    def test_places_are_looked_at_before_the_model_is(
        self,
        folder: str,
        changes: dict[str, object],
        why: str,
        several: Callable[..., tuple[Made, ...]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "a-windows-x86_64.exe").write_text("mine")
        (tmp_path / "there" / "small-linux-x86_64").write_text("mine")
        monkeypatch.setattr(building, "resolve", lambda *_: pytest.fail("the model was resolved"))
        with pytest.raises(Exception, match=why):
            several(folder, **changes)

    def test_an_icon_is_for_those_that_show_one(
        self, several: Callable[..., tuple[Made, ...]], tmp_path: Path, small_kit: Kit
    ) -> None:
        (tmp_path / "own.ico").write_bytes(default_icon() + b"more")
        linux, windows = several(icon=tmp_path / "own.ico")
        assert default_icon()[-500:] in windows.path.read_bytes()
        with open_artifact(linux.path) as artifact:
            assert artifact.manifest.bootloader.sha256 == small_kit.files["bootloader"].sha256
            assert verify(artifact) == []

    def test_prepacked_is_for_one(self, several: Callable[..., tuple[Made, ...]]) -> None:
        with pytest.raises(Exception, match="one --target at a time"):
            several(prepack="haswell")


def test_a_program_for_windows_is_called_so(
    windows_kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(building, "find_kit", lambda system: windows_kit)
    made = building.build(Request(str(small_gguf), None, "windows-x86_64", None, Defaults(), False), QUIET)
    assert made.path == Path("small.exe") and os.listdir(tmp_path) == ["small.exe"]


def test_made_folder_keeps_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), outputs.made_folder(tmp_path):
        raise ZeroDivisionError
    assert tmp_path.is_dir()


def test_the_report(build: Build) -> None:
    import hashlib

    made = build()
    told = json.loads(json.dumps(report(made)))
    assert told["target"] == "linux-x86_64" and told["floor"] == "glibc 2.17" and told["size"] == made.size
    assert [file["path"] for file in told["files"]] == [str(made.path), str(made.beside[0])]
    for file in told["files"]:
        data = Path(file["path"]).read_bytes()
        assert file["size"] == len(data) and file["sha256"] == hashlib.sha256(data).hexdigest()
    assert {"name", "size", "sha256"} == set(told["members"][0])
    assert told["manifest"]["beside"][0]["file"] == "out.weights"
