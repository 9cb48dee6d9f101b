"""Writing: the same bytes each time, in constant memory, whole or not at all."""

import os
import resource
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.build import Made, Request, make
from mkllm.builder.errors import NoKit, UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model import digests
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output
from mkllm.runtime.artifact import copy
from mkllm.runtime.artifact.copy import Copier, write_at
from mkllm.runtime.artifact.manifest import WEIGHTS, Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import NoSpace, TargetExists
from mkllm.runtime.platform.posix import files as posix_files

Build = Callable[..., Made]
QUIET = Output(True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is remembered of earlier builds is that of this test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MKLLM_CACHE", str(folder))
    return folder


@pytest.fixture
def build(small_kit: Kit, small_gguf: Path, tmp_path: Path) -> Build:
    def building(name: str = "out", model: Path = small_gguf, kit: Kit = small_kit, force: bool = False) -> Made:
        request = Request(str(model), tmp_path / name, None, None, Defaults(), force)
        return make(tmp_path / name, kit, resolve(str(model), QUIET), request, QUIET)

    return building


def test_an_artifact_is_all_it_should_be(build: Build, small_gguf: Path) -> None:
    made = build()
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o755
    done = subprocess.run([made.path, "-p", "hello"], capture_output=True, text=True)
    assert done.stdout == "ran: -p hello\n" and done.returncode == 0
    with open_artifact(made.path) as artifact:
        assert verify(artifact) == [] and artifact.manifest == made.manifest
        assert artifact.read(WEIGHTS) == small_gguf.read_bytes()
        assert artifact.member(WEIGHTS).offset % 65536 == 0
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == WEIGHTS and archive.namelist()[-1] == "mkllm/manifest.json"
        assert archive.namelist()[1:-1] == sorted(archive.namelist()[1:-1])


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unzip_reads_it(build: Build) -> None:
    made = build()
    listed = subprocess.run(["unzip", "-l", made.path], capture_output=True, text=True)
    assert listed.returncode == 0 and "model.gguf" in listed.stdout
    tested = subprocess.run(["unzip", "-t", made.path], capture_output=True, text=True)
    assert tested.returncode == 0 and "No errors detected" in tested.stdout


def test_the_same_inputs_give_the_same_bytes(build: Build, small_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / small_gguf.name
    copy.write_bytes(small_gguf.read_bytes())
    assert build("one").path.read_bytes() == build("two", copy).path.read_bytes()


def test_split_models_are_merged_while_writing(build: Build, tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> None:
    tensors = {"one": ((64, 30), 8), "two": ((65,), 0)}
    for number, (name, shape) in enumerate(tensors.items()):
        keys = {"split__no": number, "split__count": 2, "split__tensors__count": 2}
        own = {} if number == 0 else {"keys": {}}
        part = gguf_bytes(tensors={name: shape}, **own, **keys)
        (tmp_path / f"m-{number + 1:05}-of-00002.gguf").write_bytes(part)
    made = build(model=tmp_path / "m-00002-of-00002.gguf")
    with open_artifact(made.path) as artifact:
        assert artifact.read(WEIGHTS) == gguf_bytes(tensors=tensors) and artifact.manifest.name == "m"


def sharing(target: int, request: int, argument: bytes) -> int:
    """A file system that shares blocks; here it copies them."""
    assert request == posix_files.FICLONERANGE
    source, offset, size, at = posix_files.SHARING.unpack(argument)
    assert not (offset | size | at) % os.fstat(target).st_blksize
    return os.pwrite(target, os.pread(source, size, offset), at)


def test_blocks_are_shared_where_the_file_system_can(
    build: Build, small_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("one").path.read_bytes()
    written: list[int] = []

    def noting(target: int, data: memoryview, at: int) -> None:
        written.append(len(data))
        write_at(target, data, at)

    monkeypatch.setattr(digests, "known", lambda weights: None)
    monkeypatch.setattr(posix_files.fcntl, "ioctl", sharing)
    monkeypatch.setattr(copy, "write_at", noting)
    assert build("two").path.read_bytes() == first
    size = small_gguf.stat().st_size
    assert size % 4096 in written and size not in written


class TestHashedBefore:
    """Building from the same file again."""

    @pytest.fixture(autouse=True)
    def settled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that was just written counts as old."""
        monkeypatch.setattr(digests, "SETTLED_SECONDS", -3600.0)

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Sizes of what is read and hashed from here on."""
        sizes: list[int] = []
        copied = Copier.copy

        def noting(self: Copier, source: int, offset: int, size: int, at: int) -> None:
            sizes.append(size)
            copied(self, source, offset, size, at)

        monkeypatch.setattr(Copier, "copy", noting)
        return sizes

    def test_it_is_only_copied(self, build: Build, small_gguf: Path, hashed: list[int]) -> None:
        size = small_gguf.stat().st_size
        first = build("one").path.read_bytes()
        assert size in hashed
        hashed.clear()
        assert build("two").path.read_bytes() == first and size not in hashed

    def test_without_help_of_the_kernel(self, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise OSError(18, "Invalid cross-device link")

        first = build("one").path.read_bytes()
        monkeypatch.setattr(os, "copy_file_range", refuse)
        assert build("two").path.read_bytes() == first
        monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
        assert build("three").path.read_bytes() == first
        monkeypatch.delattr(os, "copy_file_range")
        assert build("four").path.read_bytes() == first

    def test_blocks_are_shared(self, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        first = build("one").path.read_bytes()
        monkeypatch.setattr(posix_files.fcntl, "ioctl", sharing)
        assert build("two").path.read_bytes() == first

    def test_another_content_with_the_same_times_is_hashed(
        self, build: Build, small_gguf: Path, tmp_path: Path, hashed: list[int]
    ) -> None:
        model = tmp_path / "model.gguf"
        data = small_gguf.read_bytes()
        model.write_bytes(data)
        times = model.stat().st_atime_ns, model.stat().st_mtime_ns
        first = build("one", model).manifest
        model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(model, ns=times)
        second = build("two", model)
        assert first.provenance.sha256 != second.manifest.provenance.sha256 and hashed.count(len(data)) == 2
        with open_artifact(second.path) as artifact:
            assert verify(artifact) == []

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": "short", "crc32": 1}', '{"sha256": 1, "crc32": 1}'])
    def test_what_was_kept_is_damaged(self, build: Build, own_cache: Path, text: str) -> None:
        first = build("one").path.read_bytes()
        (kept,) = (own_cache / "digests").iterdir()
        kept.write_text(text)
        assert build("two").path.read_bytes() == first

    def test_a_file_that_was_just_written_is_not_remembered(
        self, build: Build, small_gguf: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digests, "SETTLED_SECONDS", 3600.0)
        (tmp_path / "new.gguf").write_bytes(small_gguf.read_bytes())
        build(model=tmp_path / "new.gguf")
        assert not (own_cache / "digests").exists() or not list((own_cache / "digests").iterdir())

    def test_a_cache_that_cannot_be_written_costs_nothing(
        self, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MKLLM_CACHE", "/dev/null/cache")
        assert build("one").path.read_bytes() == build("two").path.read_bytes()


def test_a_damaged_kit_is_found_while_writing(build: Build, small_kit: Kit, tmp_path: Path) -> None:
    shutil.copytree(small_kit.path, tmp_path / "kit")
    kit = Kit.read(tmp_path / "kit")
    for name in ("bootloader", "runtime.pkg", "members/native/libllama.so"):
        saved = (kit.path / name).read_bytes()
        (kit.path / name).write_bytes(b"X" + saved[1:])
        with pytest.raises(NoKit, match=f"'{name}'"):
            build(kit=kit)
        (kit.path / name).write_bytes(saved[:-1])
        with pytest.raises(NoKit, match=f"'{name}'"):
            build(kit=kit)
        (kit.path / name).unlink()
        with pytest.raises(NoKit, match=f"'{name}'"):
            build(kit=kit)
        (kit.path / name).write_bytes(saved)
    assert sorted(os.listdir(tmp_path)) == ["kit"]
    build(kit=kit)


def test_a_model_that_changes_meanwhile(
    build: Build, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.gguf"
    copied = Copier.copy

    def truncating(self: Copier, source: int, offset: int, size: int, at: int) -> None:
        if os.path.samestat(os.fstat(source), model.stat()):
            os.truncate(model, 100)
        copied(self, source, offset, size, at)

    def touching(self: Copier, source: int, offset: int, size: int, at: int) -> None:
        copied(self, source, offset, size, at)
        os.utime(model)

    for change, why in ((truncating, "became shorter while it was read"), (touching, "was changed while it was read")):
        model.write_bytes(small_gguf.read_bytes())
        monkeypatch.setattr(Copier, "copy", change)
        with pytest.raises(UnusableModel, match=why):
            build(model=model)
        assert os.listdir(tmp_path) == ["model.gguf"]


def test_a_wrong_copy_is_found_when_it_is_read_back(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mkllm.builder.errors import BuilderFailure

    monkeypatch.setattr(posix_files.fcntl, "ioctl", lambda *_: 0)  # says that it shares blocks
    with pytest.raises(BuilderFailure, match="was read back differently"):
        build()
    assert os.listdir(tmp_path) == []


def test_existing_targets_stay_or_are_replaced(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(TargetExists, match="made by somebody else meanwhile"):
        build()
    assert (tmp_path / "out").read_text() == "mine" and os.listdir(tmp_path) == ["out"]
    build(force=True)
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.manifest.name == "small"


def test_leftovers_of_dead_builds_are_removed(build: Build, tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone = [tmp_path / f".out.{dead.pid}.partial", tmp_path / ".out.1.partial"]
    kept = [tmp_path / ".other.1.partial", tmp_path / ".out.x.partial", tmp_path / ".out.1.partial2"]
    for path in gone + kept:
        path.write_text("left")
    build()
    assert sorted(os.listdir(tmp_path)) == sorted([path.name for path in kept] + ["out"])


def test_drafts_of_running_builds_stay(build: Build, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".out.4242.partial").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        build()
        assert (tmp_path / ".out.4242.partial").exists()


def test_the_longest_names_work(build: Build, tmp_path: Path) -> None:
    name = "ü" * 127
    build(name)
    assert os.listdir(tmp_path) == [name]


def test_space_is_checked_before(build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mkllm.builder.errors import NoSpace as Checked

    full = os.statvfs_result((4096, 4096, 100, 10, 10, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(Checked, match="needed, 40.96 kB free; free some, or choose another disk with -o"):
        build()
    assert os.listdir(tmp_path) == []


def test_a_limit_on_file_sizes(build: Build, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(NoSpace, match="grew larger than its file system, or `ulimit -f`, allows"):
            build()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "mkllm-test", folder], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up(build: Build, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_disk / "other").write_bytes(bytes((1 << 20) - 40_000))
    monkeypatch.setattr("mkllm.builder.build.check_space", lambda path, needed: None)
    with pytest.raises(NoSpace, match="no space left in"):
        build("disk/out")
    assert os.listdir(small_disk) == ["other"]
    (small_disk / "other").unlink()
    build("disk/out")


def test_memory_stays_constant(kit_cache: Path, tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> None:
    """A model of 256 MiB (most of it a hole) is written in less than 100 MB."""
    elements = 1 << 26
    head = gguf_bytes(tensors={})
    from struct import pack

    name = b"big.weight"
    head = head.replace(b"GGUF" + pack("<IQ", 3, 0), b"GGUF" + pack("<IQ", 3, 1), 1)
    head += pack("<Q", len(name)) + name + pack("<IQ", 1, elements) + pack("<IQ", 0, 0)
    model = tmp_path / "big.gguf"
    model.write_bytes(head)
    os.truncate(model, len(head) + -len(head) % 32 + 4 * elements)
    code = (
        "import atexit, sys; from mkllm.builder.cli import main\n"
        "atexit.register(lambda: print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')]))\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "build", "-q", str(model), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout.split()[1]) * 1024 < 100e6
    assert (tmp_path / "out").stat().st_size > 4 * elements
