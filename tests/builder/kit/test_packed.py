"""CPU variants are compressed in kits, and are files that can be loaded again."""

import errno
import gzip
import os
from pathlib import Path

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import packed
from mkllm.builder.kit.bindings import load_backend
from mkllm.builder.kit.packed import loadable, pack, packed_name

MODULE = b"\x7fELF" + bytes(3000)


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "libggml-cpu-x64.so.gz"
    path.write_bytes(pack(MODULE))
    return path


def test_only_cpu_variants_are_packed() -> None:
    assert packed_name("native/libggml-cpu-zen4.so") == "native/libggml-cpu-zen4.so.gz"
    for name in ("native/libggml-vulkan.so", "native/libggml.so", "native/mkllm-engine", "web/libggml-cpu-x.so"):
        assert packed_name(name) == name


def test_the_same_bytes_each_time() -> None:
    assert pack(MODULE) == pack(MODULE) and gzip.decompress(pack(MODULE)) == MODULE


def test_unpacked_once(member: Path) -> None:
    first = loadable(member)
    assert first.name == "libggml-cpu-x64.so" and first.read_bytes() == MODULE and os.access(first, os.X_OK)
    assert loadable(member) == first and len(list(first.parent.iterdir())) == 1


def test_another_kit_has_another_file(member: Path) -> None:
    first = loadable(member)
    member.write_bytes(pack(MODULE + b"newer"))
    assert loadable(member) != first


def test_what_is_not_packed_is_as_it_is(tmp_path: Path) -> None:
    assert loadable(tmp_path / "libggml-vulkan.so") == tmp_path / "libggml-vulkan.so"


def test_a_full_disk_leaves_nothing(member: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packed.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        loadable(member)
    (folder,) = (member.parent / "cache" / "modules").iterdir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kept", [slice(0, -9), slice(0, 0), slice(2, None)])
def test_damage_is_an_error_of_the_file(member: Path, kept: slice) -> None:
    member.write_bytes(member.read_bytes()[kept])
    with pytest.raises(OSError):
        loadable(member)


def test_what_a_power_loss_left_is_unpacked_again(member: Path) -> None:
    loadable(member).write_bytes(b"")
    assert loadable(member).read_bytes() == MODULE


def test_bindings_say_what_they_do_not_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mkllm.builder.kit.bindings.load", lambda *_: None)
    with pytest.raises(NoKit, match="'libggml-cpu-x64.so' of '.*' cannot be unpacked"):
        load_backend(tmp_path, "x64", tmp_path)
