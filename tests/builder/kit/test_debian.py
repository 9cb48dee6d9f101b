"""Files of Debian's archive: through apt from a folder, or out of a folder, kept, and refused when they are others."""

import errno
import hashlib
import shutil
import tomllib
from pathlib import Path

import pytest

from mkllm.builder.errors import MissingTool, NoSource, NoSpace, WrongHash
from mkllm.builder.kit import debian
from mkllm.builder.kit.debian import SourceFile, fetch

ROOT = Path(__file__).parents[3]
DATA = b"the source of a program"
# As apt's own does it: takes an address and the name of a file, and says what is wrong.
HELPER = """#!/bin/sh
[ "$1" = download-file ] || exit 9
cp "${2#copy:}" "$3" || { echo "E: Failed to fetch $2"; exit 100; }
"""


@pytest.fixture
def file() -> SourceFile:
    return SourceFile("pool/main/t/tiny/tiny_1.orig.tar.gz", hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: SourceFile) -> Path:
    """The file in an archive that apt is set up with, beside another that does not have it; the cache is empty."""
    helper, archive = tmp_path / "apt-helper", tmp_path / "archive"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (archive / file.pool).parent.mkdir(parents=True)
    (archive / file.pool).write_bytes(DATA)
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "HELPER", helper)
    monkeypatch.setattr(debian, "_archives", lambda file: [f"copy:{tmp_path}/none/", f"copy:{archive}/"])
    return archive


def test_comes_through_apt_and_is_kept(archive: Path, file: SourceFile) -> None:
    kept = fetch(file)
    assert kept.read_bytes() == DATA and kept.name == file.name
    shutil.rmtree(archive)
    assert fetch(file) == kept


def test_a_damaged_one_in_the_cache_is_fetched_again(archive: Path, file: SourceFile) -> None:
    fetch(file).write_bytes(b"damaged")
    assert fetch(file).read_bytes() == DATA


def test_another_file(archive: Path, file: SourceFile) -> None:
    (archive / file.pool).write_bytes(b"another")
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(
        WrongHash, match=f"'tiny_1.orig.tar.gz' from apt has the SHA-256 {found}, which is not the pinned"
    ):
        fetch(file)
    assert WrongHash.exit_code == 16


def test_nothing_there(archive: Path, file: SourceFile) -> None:
    shutil.rmtree(archive)
    with pytest.raises(NoSource, match=r"'tiny_1.orig.tar.gz' could not be downloaded: .* by --python-source\n"):
        fetch(file)
    assert NoSource.exit_code == 23


def test_out_of_a_folder(archive: Path, file: SourceFile, tmp_path: Path) -> None:
    shutil.rmtree(archive)
    with pytest.raises(NoSource, match="does not hold 'tiny_1.orig.tar.gz'"):
        fetch(file, tmp_path)
    (tmp_path / file.name).write_bytes(b"another")
    with pytest.raises(WrongHash, match="from '.*' has the SHA-256"):
        fetch(file, tmp_path)
    (tmp_path / file.name).write_bytes(DATA)
    assert fetch(file, tmp_path).read_bytes() == DATA


def test_full_disk(archive: Path, file: SourceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / file.name).write_bytes(DATA)
    monkeypatch.setattr(debian.shutil, "copyfile", full)
    with pytest.raises(NoSpace, match="No space left on device"):
        fetch(file, tmp_path)


def test_a_machine_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: SourceFile) -> None:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path))
    monkeypatch.setattr(debian, "HELPER", tmp_path / "none")
    with pytest.raises(MissingTool, match=f"apt, which is not here: get '{file.pool}' from any mirror of Debian"):
        fetch(file)


@pytest.mark.parametrize(
    ("archives", "sentence"),
    [
        ("Ubuntu copy:/archive/\n", "knows no archive of Debian here: get"),
        ("", "run `apt-get update`, or get"),
    ],
    ids=["another system", "never updated"],
)
def test_apt_without_an_archive_of_debian(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: SourceFile, archives: str, sentence: str
) -> None:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path))
    monkeypatch.setattr(debian, "HELPER", tmp_path)
    monkeypatch.setattr(debian, "run", lambda words: archives)
    with pytest.raises(MissingTool, match=sentence):
        fetch(file)


def test_the_pins_are_whole() -> None:
    table = tomllib.loads((ROOT / "builder/kit/pins.toml").read_text())["debian"]
    for package, entry in table.items():
        for file in debian.source_files(package).values():
            assert file.pool.startswith("pool/main/") and entry["version"] in file.name and len(file.sha256) == 64
