"""Extract: bit for bit, whole or not at all, and never over something else."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mkllm.runtime.artifact.extract import extract
from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.errors import Different, NoSpace, NoSuchMember, PermissionFailure, TargetExists


def test_the_model_comes_back_bit_for_bit(small_artifact: Path, small_gguf: Path, tmp_path: Path) -> None:
    told: list[int] = []
    with open_artifact(small_artifact) as artifact:
        made = extract(artifact, out=tmp_path / "back.gguf", progress=told.append)
    assert made.read_bytes() == small_gguf.read_bytes()
    assert sum(told) == made.stat().st_size and made.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["back.gguf"]


def test_names_are_chosen(small_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with open_artifact(small_artifact) as artifact:
        assert extract(artifact) == Path(WEIGHTS)
        assert extract(artifact, "native/libllama.so") == Path("libllama.so")
        assert extract(artifact, "licenses/empty.txt", Path("folder")) == Path("folder/empty.txt")
    assert (tmp_path / "folder/empty.txt").read_bytes() == b""


def test_what_exists_stays(small_artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("mine")
    with open_artifact(small_artifact) as artifact:
        with pytest.raises(TargetExists, match="exists already"):
            extract(artifact, out=target)
        assert target.read_text() == "mine"
        extract(artifact, out=target, force=True)
    assert target.read_bytes()[:4] == b"GGUF"


def test_the_artifact_itself_is_never_overwritten(small_artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(small_artifact.read_bytes())
    (tmp_path / "link").symlink_to(copy)
    with open_artifact(copy) as artifact, pytest.raises(TargetExists, match="is the artifact itself"):
        extract(artifact, out=tmp_path / "link", force=True)


def test_damage_leaves_nothing(small_artifact: Path, tmp_path: Path) -> None:
    data = bytearray(small_artifact.read_bytes())
    with open_artifact(small_artifact) as artifact:
        data[artifact.member(WEIGHTS).offset + 1000] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    with (
        open_artifact(tmp_path / "damaged") as artifact,
        pytest.raises(Different, match="'model.gguf' is not what was"),
    ):
        extract(artifact, out=tmp_path / "out")
    assert os.listdir(tmp_path) == ["damaged"]


def test_a_file_that_shrinks_meanwhile(small_artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(small_artifact.read_bytes())
    with open_artifact(copy) as artifact:
        os.truncate(copy, artifact.member(WEIGHTS).offset + 10)
        with pytest.raises(Different, match="became shorter"):
            extract(artifact, out=tmp_path / "out")
    assert os.listdir(tmp_path) == ["copy"]


def test_no_such_member_and_no_such_folder(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        with pytest.raises(NoSuchMember):
            extract(artifact, "native/none", tmp_path / "out")
        with pytest.raises(PermissionFailure, match="there is no folder"):
            extract(artifact, out=tmp_path / "none" / "out")
        with pytest.raises(PermissionFailure, match="cannot be written"):
            extract(artifact, out=Path("/proc/out"))
        with pytest.raises(PermissionFailure, match=r"cannot be written \(file name too long\): choose another place"):
            extract(artifact, out=tmp_path / ("x" * 256))
    assert os.listdir(tmp_path) == []


def test_no_room(small_artifact: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mkllm.runtime.artifact.reader import open_artifact\n"
        "from mkllm.runtime.artifact.extract import extract; from mkllm.runtime.errors import NoSpace\n"
        "try: extract(open_artifact(sys.argv[1]), out=Path(sys.argv[2]))\n"
        "except NoSpace as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small_artifact, tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
    )
    assert "grew larger than its file system" in done.stdout, done.stderr
    assert NoSpace.exit_code == 14 and os.listdir(tmp_path) == []
