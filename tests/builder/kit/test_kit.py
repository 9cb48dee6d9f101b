"""A kit on the disk: kit.json is read strictly, files are checked when the kit is used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import kit as kits
from mkllm.builder.kit.kit import Kit, engine_environment


@pytest.fixture
def folder(small_kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small kit, and a cache of its own that has verified nothing."""
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(small_kit.path, tmp_path / "kit"))


def test_members_are_sorted_names(small_kit: Kit) -> None:
    assert small_kit.members() == sorted(small_kit.members())
    assert "native/mkllm-engine" in small_kit.members() and "bootloader" not in small_kit.members()
    assert small_kit.backends == (("cpu-x64", "native/libggml-cpu-x64.so"),) and small_kit.glibc == "2.17"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 7),
        ("versions", {"python": "3.11.7"}),
        ("versions", []),
        ("engine", {"program": "x"}),
        ("backends", [{"name": "x"}]),
        ("files", {"../x": {"size": 1, "sha256": "0"}}),
        ("files", {"x": {"size": "1", "sha256": "0"}}),
        ("files", {"x": None}),
        ("target", None),
    ],
)
def test_kit_json_of_another_form(key: str, value: Any, folder: Path) -> None:
    info = json.loads((folder / "kit.json").read_text()) | {key: value}
    (folder / "kit.json").write_text(json.dumps(info))
    with pytest.raises(NoKit, match="is damaged: kit.json is not as it was written"):
        Kit.read(folder)


def test_kit_json_that_is_missing_or_no_json(folder: Path) -> None:
    (folder / "kit.json").write_text("{")
    with pytest.raises(NoKit, match="is damaged"):
        Kit.read(folder)
    (folder / "kit.json").unlink()
    with pytest.raises(NoKit, match="is no kit: kit.json cannot be read"):
        Kit.read(folder)


def test_sizes_are_always_checked_and_hashes_the_first_time(folder: Path) -> None:
    library = folder / "members/native/libllama.so"
    saved = library.read_bytes()
    library.write_bytes(b"X" + saved[1:])
    with pytest.raises(NoKit, match="'members/native/libllama.so'"):
        Kit.read(folder).verify()
    library.write_bytes(saved)
    Kit.read(folder).verify()
    library.write_bytes(b"X" + saved[1:])
    Kit.read(folder).verify()  # found by the writer, which hashes whatever it copies
    library.write_bytes(saved[1:])
    with pytest.raises(NoKit, match="'members/native/libllama.so'"):
        Kit.read(folder).verify()
    library.unlink()
    with pytest.raises(NoKit, match="run `mkllm kit build`"):
        Kit.read(folder).verify()


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of what was verified is a convenience: without it everything is hashed each time."""
    (tmp_path / "file").touch()
    for cache in (tmp_path / "file", Path("/proc/none")):
        monkeypatch.setenv("MKLLM_CACHE", str(cache))
        check_without_memory(folder)


def test_no_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MKLLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    check_without_memory(folder)


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def check_without_memory(folder: Path) -> None:
    library = folder / "members/native/libllama.so"
    saved = library.read_bytes()
    Kit.read(folder).verify()
    library.write_bytes(b"X" + saved[1:])
    with pytest.raises(NoKit, match="'members/native/libllama.so'"):
        Kit.read(folder).verify()
    library.write_bytes(saved)


def test_a_copy_elsewhere_is_verified_anew(folder: Path, tmp_path: Path) -> None:
    Kit.read(folder).verify()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "members/web/index.html.gz").write_bytes(bytes(333))
    with pytest.raises(NoKit, match="index.html.gz"):
        Kit.read(copy).verify()


def test_the_engine_of_a_build_loads_the_best_cpu_variant_and_no_driver(
    small_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cpu-x64", "cpu-haswell", "cpu-zen4", "vulkan")
    kit = replace(small_kit, backends=tuple((name, f"native/libggml-{name}.so") for name in names))
    monkeypatch.setenv("LLAMA_ARG_DEVICE", "Vulkan0")
    monkeypatch.setattr(kits, "host_flags", lambda: frozenset("sse4_2 avx f16c fma bmi2 avx2 other".split()))
    environment = engine_environment(kit)
    assert environment["MKLLM_BACKENDS"] == f"{kit.path}/members/native/libggml-cpu-haswell.so"
    assert "LLAMA_ARG_DEVICE" not in environment
    assert "MKLLM_BACKENDS" not in engine_environment(replace(kit, backends=()))
    assert "MKLLM_BACKENDS" not in engine_environment(replace(kit, path=Path("/a:b")))
