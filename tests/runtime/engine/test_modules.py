"""Where the engine and its backends are put."""

import errno
import fcntl
import gzip
import os
import stat

import pytest

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.errors import NoSpace, NotAnArtifact, PermissionFailure
from mkllm.runtime.hardware.probe import probe
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.home import Home


@pytest.fixture
def artifact(fake_artifact, played):
    with open_artifact(fake_artifact) as artifact:
        yield artifact


@pytest.fixture
def choice(artifact):
    return rank(probe(), artifact.manifest.backends).choices[0]


def test_only_what_is_needed_is_placed(artifact, choice, tmp_path):
    placed = Modules(artifact, Home(tmp_path, "cache")).place(choice)
    assert sorted(os.listdir(tmp_path / "native")) == ["libggml-cpu-haswell.so", "libllama.so", "mkllm-engine"]
    assert placed.modules[0].read_bytes() == gzip.decompress(artifact.read("native/libggml-cpu-haswell.so.gz"))
    assert placed.libraries is None and placed.descriptors == ()
    assert stat.S_IMODE(placed.program.stat().st_mode) == 0o700


def test_what_is_there_is_used(artifact, choice, tmp_path):
    modules = Modules(artifact, Home(tmp_path, "cache"))
    first = modules.place(choice).program.stat()
    assert Modules(artifact, Home(tmp_path, "cache")).place(choice).program.stat().st_ino == first.st_ino


def test_what_is_there_in_part_is_written_again(artifact, choice, tmp_path):
    program = Modules(artifact, Home(tmp_path, "cache")).place(choice).program
    whole = program.read_bytes()
    program.write_bytes(whole[:-1])
    Modules(artifact, Home(tmp_path, "cache")).place(choice)
    assert program.read_bytes() == whole


@pytest.mark.parametrize("writing", [False, True])
def test_partial_files_of_killed_launches_are_removed(artifact, choice, tmp_path, writing):
    """Process numbers come again, in containers always the same: such a file must not be in the way either."""
    folder = tmp_path / "native"
    folder.mkdir()
    left = folder / f".mkllm-engine.{os.getpid()}.partial"
    left.write_bytes(b"half")
    other = os.open(folder, os.O_RDONLY)
    if writing:
        fcntl.flock(other, fcntl.LOCK_SH)
    Modules(artifact, Home(tmp_path, "cache")).place(choice)
    os.close(other)
    assert left.exists() == writing
    assert len(os.listdir(folder)) == (4 if writing else 3)


def test_memory_holds_the_files_and_links_name_them(artifact, choice, tmp_path):
    placed = Modules(artifact, Home(tmp_path, "memory")).place(choice)
    assert len(placed.descriptors) == 3 and placed.libraries == tmp_path / "native"
    assert os.readlink(placed.program).startswith("/proc/self/fd/")
    assert placed.modules[0].read_bytes() == gzip.decompress(artifact.read("native/libggml-cpu-haswell.so.gz"))
    assert all(not os.get_inheritable(descriptor) for descriptor in placed.descriptors)
    for descriptor in placed.descriptors:
        os.close(descriptor)


def test_a_damaged_member_is_not_placed(build_fake, choice, tmp_path):
    path = build_fake(tmp_path / "damaged")
    with open_artifact(path) as artifact:
        offset = artifact.member("native/libllama.so").offset
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"X")
        with pytest.raises(NotAnArtifact, match=r"damaged \('native/libllama.so' is not what was built\)"):
            Modules(artifact, Home(tmp_path, "cache")).place(choice)
    assert sorted(os.listdir(tmp_path / "native")) == ["mkllm-engine"]


@pytest.mark.parametrize("at", [0, 12, -1])
def test_a_damaged_module_is_not_placed(build_fake, choice, tmp_path, at):
    """Neither when that shows while it is unpacked, nor when only its checksum tells."""
    path = build_fake(tmp_path / "damaged")
    with open_artifact(path) as artifact:
        member = artifact.member("native/libggml-cpu-haswell.so.gz")
        with path.open("r+b") as file:
            file.seek(member.offset + at % member.size)
            file.write(b"\xa5")
        with pytest.raises(
            NotAnArtifact, match=r"damaged \('native/libggml-cpu-haswell.so.gz' is not what was built\)"
        ):
            Modules(artifact, Home(tmp_path, "cache")).place(choice)
    assert "libggml-cpu-haswell.so" not in os.listdir(tmp_path / "native")


@pytest.mark.parametrize("number,kind", [(errno.ENOSPC, NoSpace), (errno.EROFS, PermissionFailure)])
def test_a_place_that_does_not_serve(artifact, choice, tmp_path, monkeypatch, number, kind):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(kind, match="set MKLLM_RUNTIME_DIR to another folder"):
        Modules(artifact, Home(tmp_path, "cache")).place(choice)
    assert os.listdir(tmp_path / "native") == []


def test_a_python_without_files_in_memory(artifact, choice, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(
        PermissionFailure, match=r"\(this Python was built without files in memory\): set MKLLM_RUNTIME_DIR"
    ):
        Modules(artifact, Home(tmp_path, "memory")).place(choice)
