"""What is removed of kits and parts, what stays, and what is said of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mkllm.builder import cli
from mkllm.builder.errors import NoKit
from mkllm.builder.kit import store
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.remove import named, remove, replaced
from mkllm.builder.kit.target import builder

from .test_store import FACTS, Silent, writing


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(text: str) -> Kit:
    part = writing(text, [])
    folder = store.build_part(part, Silent())
    return store.compose(builder().name, [part], [folder], {**FACTS, "parts": {part.name: part.key}})


def left(cache: Path, of: str) -> set[str]:
    return {path.name for path in (cache / of).iterdir() if path.is_dir()}


def test_what_was_replaced(own_cache: Path) -> None:
    old, damaged, new = made("old"), made("damaged"), made("new")
    (damaged.path / "kit.json").write_text("{")
    parts = left(own_cache, "parts")
    folders = replaced()
    assert {old.path, damaged.path} < set(folders) and new.path not in folders and len(folders) == 4
    size = len("old") + len("damaged") + 2 * 5 * 5
    assert remove(folders) > size
    assert left(own_cache, "kits") == {new.path.name} and len(left(own_cache, "parts")) == 1 and len(parts) == 3
    assert store.find_kit(builder().name).id == new.id
    new.verify()
    assert replaced() == []


def test_the_part_that_was_built_last_stays_for_builds_to_come(own_cache: Path) -> None:
    kit = made("kit")
    later = store.build_part(writing("later", []), Silent())
    assert replaced() == [] and later.is_dir() and kit.path.is_dir()


def test_the_one_in_use_can_be_named(own_cache: Path) -> None:
    kit, other = made("one"), made("two")
    assert named([other.id[:8], other.id]) == [other.path]
    assert remove([other.path]) > 0
    with pytest.raises(NoKit, match="there is no kit for"):
        store.find_kit(builder().name)
    assert kit.path.is_dir() and not list((own_cache / "kits").glob("*.current"))


def test_bytes_that_a_part_keeps_are_not_freed(own_cache: Path) -> None:
    kit = made("one")
    json_only = (kit.path / "kit.json").stat().st_size
    packed = sum(path.stat().st_size for path in kit.path.rglob("*.gz"))
    assert remove([kit.path]) == json_only + packed


def test_a_name_of_none(own_cache: Path) -> None:
    made("one")
    with pytest.raises(NoKit, match="0 kits match 'fff'"):
        named(["fff"])


def test_one_of_an_installed_wheel(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = made("one")
    elsewhere = tmp_path / "site-packages" / "kit"
    elsewhere.parent.mkdir()
    kit.path.rename(elsewhere)
    monkeypatch.setattr(store, "_installed", lambda target: [elsewhere])
    with pytest.raises(NoKit, match=r"of an installed wheel: `pip uninstall mkllm-kit-[\w-]+` removes it"):
        named([kit.id])
    assert elsewhere.is_dir()


def test_the_command(own_cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = made("old"), made("new")
    assert cli._run(["kit", "remove", "--old"]) == 0
    said = capfd.readouterr()
    assert f"removed {old.path.name}\n" in said.err and "2 folders removed, 0.0 MB freed\n" in said.out
    assert cli._run(["kit", "list", "--json"]) == 0
    assert [one["id"] for one in json.loads(capfd.readouterr().out)] == [new.id]
    assert cli._run(["kit", "remove", "--old"]) == 0
    assert "0 folders removed" in capfd.readouterr().out
    assert cli._run(["kit", "remove", new.id[:6], "-q"]) == 0
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("words", [[], ["0", "--old"]])
def test_either_names_or_old(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["kit", "remove", *words]) == 2
    assert "name the kits to remove by their ids (`mkllm kit list`), or say --old" in capfd.readouterr().err


def test_a_kill_leaves_no_half_of_a_kit(own_cache: Path) -> None:
    kit, new = made("old"), made("new")
    code = (
        "import os, shutil\nfrom pathlib import Path\nfrom mkllm.builder.kit import remove\n"
        "shutil.rmtree = lambda *words, **more: os._exit(9)\n"
        f"remove.remove([Path({str(kit.path)!r})])"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 9
    kits, damaged = store.all_kits()
    assert [found.id for found in kits] == [new.id] and not damaged
    assert remove([new.path]) > 0  # and takes with it what the killed one left
    assert left(own_cache, "kits") == set()


def test_an_empty_name_is_none() -> None:
    made("one")
    with pytest.raises(NoKit, match="an empty name is no kit's"):
        named([""])


def test_a_damaged_one_in_use_goes_with_the_old(own_cache: Path) -> None:
    kit = made("one")
    (kit.path / "kit.json").write_text("{")
    assert kit.path in replaced()
    remove(replaced())
    assert left(own_cache, "kits") == set()
