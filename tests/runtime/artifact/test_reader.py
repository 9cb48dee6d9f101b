"""Opening: an artifact is read as it was written; anything else is refused with one sentence, quickly."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from mkllm.builder.build import Request, make
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.placing import Limits
from mkllm.builder.progress import Output
from mkllm.runtime.artifact import layout
from mkllm.runtime.artifact.manifest import MEMBER, WEIGHTS, Defaults, Projector
from mkllm.runtime.artifact.reader import is_safe, open_artifact
from mkllm.runtime.errors import Different, NoSuchMember, NotAnArtifact, PermissionFailure, WeightsUnusable


def rewritten(artifact: Path, target: Path, manifest: bytes) -> Path:
    """The artifact with another manifest of any length, everything around it made anew and right."""
    import hashlib

    with open_artifact(artifact) as opened:
        data, entries, comment = artifact.read_bytes(), list(opened.entries), opened.comment
        pkg = opened.manifest.pkg.size
    last, start = entries[-1].place, layout.pkg_offset([entry.place for entry in entries])
    place = layout.Place(MEMBER, len(manifest), last.start)
    entries[-1] = layout.Entry(place, zlib.crc32(manifest))
    file = bytearray(data[: last.start]) + layout.local_header(entries[-1]) + manifest
    file += bytes(layout.align(len(file), layout.BLOCK) - len(file)) + data[start : start + pkg]
    directory = layout.directory(entries)
    new = dataclasses.replace(
        comment, manifest_sha256=hashlib.sha256(manifest).hexdigest(), directory_crc=zlib.crc32(directory)
    )
    target.write_bytes(file + directory + layout.end(len(entries), len(file), len(directory), new.to_bytes()))
    return target


def test_what_was_written_is_read(small_artifact: Path, small_gguf: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        assert artifact.size == small_artifact.stat().st_size
        assert artifact.manifest.name == "small"
        assert artifact.read(WEIGHTS) == small_gguf.read_bytes()
        assert artifact.read("licenses/empty.txt") == b""
        assert json.loads(artifact.read(MEMBER))["target"] == "linux-x86_64"


def test_an_unknown_member_gets_a_suggestion(small_artifact: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        with pytest.raises(NoSuchMember, match="no member 'modl.gguf': did you mean 'model.gguf'"):
            artifact.read("modl.gguf")
        with pytest.raises(NoSuchMember):
            artifact.read("")


def test_a_damaged_member_is_not_returned(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        at = artifact.member("native/libllama.so").offset
    data = bytearray(small_artifact.read_bytes())
    data[at] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    with open_artifact(tmp_path / "damaged") as artifact, pytest.raises(Different, match="'native/libllama.so'"):
        artifact.read("native/libllama.so")


def test_it_reads_the_file_that_it_opened(small_artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(small_artifact.read_bytes())
    with open_artifact(copy) as artifact:
        (tmp_path / "other").write_bytes(b"other")
        os.replace(tmp_path / "other", copy)
        assert artifact.read(WEIGHTS)[:4] == b"GGUF"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "too short"),
        (lambda path: path.write_bytes(b"#!/bin/sh\n"), "too short"),
        (lambda path: path.write_bytes(bytes(1 << 20)), "does not end as an artifact"),
        (lambda path: path.mkdir(), "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to(path), "too many levels"),
    ],
)
def test_other_things_are_refused(make, why: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "thing")
    with pytest.raises(NotAnArtifact, match=why) as caught:
        open_artifact(tmp_path / "thing")
    assert repr(str(tmp_path / "thing")) in str(caught.value)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(NotAnArtifact, match="null byte"):
        open_artifact("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    with pytest.raises(PermissionFailure, match="may not be read"):
        open_artifact(tmp_path / "secret")


def test_truncated_at_every_length(small_artifact: Path, tmp_path: Path) -> None:
    data = small_artifact.read_bytes()
    for length in [*range(0, len(data), 997), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(NotAnArtifact):
            open_artifact(tmp_path / "cut")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("format", 2, "format 2"),
        ("format", "1", "format is '1'"),
        ("unknown", 1, "unknown key 'unknown'"),
        ("name", None, "name is None"),
        ("members", [], "members"),
        ("kit", {}, "lacks the key"),
        ("backends", [{"name": "cpu-x64", "member": "native/none.so"}], "engine, backends or kit"),
        ("engine", {"program": "native/none", "libraries": []}, "engine, backends or kit"),
        ("bootloader", {"size": 0, "sha256": "0" * 64}, "bootloader or PKG"),
        ("pkg", {"size": 10**12, "sha256": "0" * 64}, "place of the PKG"),
    ],
)
def test_a_manifest_that_contradicts_the_file(
    key: str, value: object, why: str, small_artifact: Path, tmp_path: Path
) -> None:
    with open_artifact(small_artifact) as artifact:
        raw = json.loads(artifact.read(MEMBER))
    raw[key] = value
    with pytest.raises(NotAnArtifact, match=why):
        open_artifact(rewritten(small_artifact, tmp_path / "changed", json.dumps(raw).encode()))


def test_what_came_later_is_left_out_where_there_is_none(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        raw, manifest = json.loads(artifact.read(MEMBER)), artifact.manifest
    assert "projector" not in raw and "pooling" not in raw["model"] and manifest.projector is None
    other = dataclasses.replace(
        manifest,
        model=dataclasses.replace(manifest.model, pooling="mean"),
        projector=Projector(None, True, False, 1),
    )
    with open_artifact(rewritten(small_artifact, tmp_path / "more", other.to_bytes())) as artifact:
        assert artifact.manifest == other


@pytest.mark.parametrize(
    "text", [b"", b"[" * 100_000, b"null", b"{}", b"\xff", b'{"format": 99}', b'{"format": 1e999}']
)
def test_a_manifest_that_is_none(text: bytes, small_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAnArtifact, match="manifest|format 99"):
        open_artifact(rewritten(small_artifact, tmp_path / "changed", text))


def test_rewritten_makes_artifacts(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        text = artifact.read(MEMBER)
    assert rewritten(small_artifact, tmp_path / "same", text).read_bytes() == small_artifact.read_bytes()


def test_names_that_are_safe_to_extract() -> None:
    good = ["model.gguf", "native/lib.so", "web/a/b.js.gz", "licenses/ü.txt"]
    bad = ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\nb", "a\0", "x" * 256, "é" * 128]
    assert all(map(is_safe, good)) and not any(map(is_safe, bad))


def test_opening_is_quick(small_artifact: Path) -> None:
    open_artifact(small_artifact).close()
    begun = time.process_time()
    for _ in range(20):
        open_artifact(small_artifact).close()
    assert (time.process_time() - begun) / 20 < 0.01


def test_importing_it_is_light() -> None:
    code = "import sys; import mkllm.runtime.artifact.reader; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "zipfile",
        "asyncio",
        "concurrent.futures",
        "difflib",
        "tempfile",
        "subprocess",
        "click",
        "rich",
        "pathlib",
    }
    assert "mkllm.runtime.artifact.reader" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


@pytest.fixture
def pair(small_kit: Kit, small_gguf: Path, tmp_path: Path) -> Path:
    """An artifact with its weights beside it."""
    path, quiet = tmp_path / "pair", Output(True)
    request = Request(str(small_gguf), path, None, None, Defaults(), False, limits=Limits("always"))
    return make(path, small_kit, resolve(str(small_gguf), quiet), request, quiet).path


def test_weights_beside_are_not_opened_before_they_are_wanted(pair: Path, small_gguf: Path) -> None:
    (pair.parent / "pair.weights").unlink()
    with open_artifact(pair) as artifact:
        assert artifact.weights.size == small_gguf.stat().st_size
        with pytest.raises(WeightsUnusable, match="needs its weights, the file 'pair.weights'") as caught:
            artifact.model()
    assert caught.value.exit_code == 33


def test_they_stay_open_when_they_are_replaced(pair: Path, small_gguf: Path) -> None:
    with open_artifact(pair) as artifact:
        [stretch] = artifact.model()
        (pair.parent / "pair.weights").unlink()
        assert artifact.model()[0].descriptor == stretch.descriptor
        assert os.pread(stretch.descriptor, 4, stretch.offset) == b"GGUF"


@pytest.mark.parametrize("place", ["folder", "file", "nowhere"])
def test_where_the_variable_says(pair: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = pair.parent / "other"
    other.mkdir()
    os.rename(pair.parent / "pair.weights", other / "pair.weights")
    monkeypatch.chdir(pair.parent)
    monkeypatch.setenv("MKLLM_WEIGHTS", {"folder": "other", "file": "other/pair.weights", "nowhere": "none"}[place])
    with open_artifact(pair) as artifact:
        if place == "nowhere":
            with pytest.raises(WeightsUnusable, match=r"is not in '.*' \(which MKLLM_WEIGHTS names\)"):
                artifact.model()
        else:
            assert artifact.model()[0].path == str(other / "pair.weights")


def test_what_cannot_be_read_is_said(pair: Path) -> None:
    weights = pair.parent / "pair.weights"
    weights.unlink()
    weights.mkdir()
    with open_artifact(pair) as artifact, pytest.raises(WeightsUnusable, match="needs its weights"):
        artifact.model()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../pair.weights"), ("file", "a/b"), ("file", ""), ("data", -1), ("data", 10**9), ("size", 0),
        ("sha256", "x"), ("ends", "00"),
    ],
)  # fmt: skip
def test_files_beside_that_cannot_be(pair: Path, tmp_path: Path, key: str, value: object) -> None:
    with open_artifact(pair) as artifact:
        manifest = json.loads(artifact.read(MEMBER))
    manifest["beside"][0][key] = value
    data = json.dumps(manifest).encode()
    with pytest.raises(NotAnArtifact, match=r"contradict each other \(files of weights\)"):
        open_artifact(rewritten(pair, tmp_path / "changed", data))


def test_files_beside_that_do_not_fit_the_members(pair: Path, small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(pair) as artifact:
        alone = json.loads(artifact.read(MEMBER))
    with open_artifact(small_artifact) as artifact:
        whole = json.loads(artifact.read(MEMBER))
    two = {**alone, "beside": alone["beside"] * 2}  # in several files, and no header of them all
    for base, manifest in ((pair, two), (pair, {**alone, "beside": []}), (small_artifact, {**whole, **_beside(alone)})):
        with pytest.raises(NotAnArtifact, match=r"contradict each other \(members\)"):
            open_artifact(rewritten(base, tmp_path / "changed", json.dumps(manifest).encode()))


def _beside(manifest: dict[str, object]) -> dict[str, object]:
    return {"beside": manifest["beside"]}
