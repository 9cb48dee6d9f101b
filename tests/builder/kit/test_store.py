"""The store: parts are built once and whole, kits are named by their content, and the right one is found."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.store import (
    all_kits,
    build_part,
    choose_kit,
    compose,
    current_kits,
    examiner,
    find_kit,
    is_built,
)
from mkllm.builder.kit.target import TARGETS, builder

FACTS = {
    "versions": {"llama_cpp": "0.3.36", "python": "3.11.7"},
    "glibc": "2.17",
    "glibc_of_parts": {"native": "2.17"},
    "parts": {"native": "0"},
    "engine": {"program": "native/mkllm-engine", "libraries": ["native/libllama.so"]},
    "backends": [{"name": "cpu-x64", "member": "native/libggml-cpu-x64.so"}],
}


class Silent:
    log: IO[str] = io.StringIO()

    def step(self, text: str) -> None: ...

    def progress(self, fraction: float) -> None: ...


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))


def writing(text: str, calls: list[str]) -> Part:
    def build(work: Path, out: Path, report: Report) -> None:
        calls.append(text)
        for name in (
            "native/mkllm-engine",
            "native/libllama.so",
            "native/libggml-cpu-x64.so",
            "bootloader",
            "runtime.pkg",
        ):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(text + name)

    return Part("native", {"text": text}, build, 1.0)


def test_a_part_is_built_once() -> None:
    calls: list[str] = []
    part = writing("a", calls)
    assert build_part(part, Silent()) == build_part(part, Silent())
    assert calls == ["a"] and is_built(part)


def test_other_inputs_are_another_part() -> None:
    calls: list[str] = []
    assert build_part(writing("a", calls), Silent()) != build_part(writing("b", calls), Silent())


def test_a_failed_build_leaves_no_part_but_its_work() -> None:
    attempts: list[int] = []

    def build(work: Path, out: Path, report: Report) -> None:
        attempts.append(len(list(work.iterdir())))
        (work / f"object-{len(attempts)}").touch()
        (out / "half").touch()
        if len(attempts) == 1:
            raise OSError("interrupted")

    part = Part("flaky", {}, build, 1.0)
    with pytest.raises(OSError, match="interrupted"):
        build_part(part, Silent())
    assert not is_built(part)
    build_part(part, Silent())
    assert attempts == [0, 1] and is_built(part)


def test_work_is_removed_once_the_part_is_whole_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    def built(text: str, keep_work: bool) -> list[str]:
        def build(work: Path, out: Path, report: Report) -> None:
            (work / text).touch()

        build_part(Part("flaky", {"text": text}, build, 1.0), Silent(), keep_work)
        return sorted(path.name for path in (tmp_path / "cache/work").glob("flaky/*"))

    assert built("a", True) == ["a"]
    assert built("b", True) == ["a", "b"]
    assert built("c", False) == []


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    stale = [cache / "parts/.new-native-x", cache / "kits/.new-kit-x"]
    of_another = cache / "parts/.new-other-x"
    for folder in (*stale, of_another):
        (folder / "out").mkdir(parents=True)
    part = writing("a", [])
    compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS)
    assert [path for path in (*stale, of_another) if path.exists()] == [of_another]
    assert sorted(path.name for path in (cache / "parts").iterdir()) == [".new-other-x", f"native-{part.key}"]


def test_a_damaged_part_is_built_again() -> None:
    calls: list[str] = []
    part = writing("a", calls)
    (build_part(part, Silent()) / "bootloader").write_text("Xbootloader")
    assert not is_built(part)
    assert (build_part(part, Silent()) / "bootloader").read_text() == "abootloader"
    assert calls == ["a", "a"]


def test_kits_are_named_by_their_content() -> None:
    calls: list[str] = []
    kits = []
    for text in ("a", "a", "b"):
        part = writing(text, calls)
        kits.append(compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS))
    assert kits[0].id == kits[1].id != kits[2].id
    assert (kits[0].path / "members/native/mkllm-engine").read_text() == "anative/mkllm-engine"
    assert not list(kits[0].path.rglob(".complete"))
    kits[0].verify()
    assert find_kit("linux-x86_64").id == kits[2].id
    assert {kit.id for kit in all_kits()[0]} == {kits[0].id, kits[2].id}
    assert choose_kit(None).id == kits[2].id and choose_kit(kits[0].id[:9]).id == kits[0].id


def test_a_damaged_kit_is_found() -> None:
    part = writing("a", [])
    kit = compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS)
    (kit.path / "runtime.pkg").write_text("Xruntime.pkg")
    with pytest.raises(NoKit, match="runtime.pkg"):
        kit.verify()


def test_a_damaged_kit_is_set_apart() -> None:
    kits = []
    for text in ("a", "b"):
        part = writing(text, [])
        kits.append(compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS))
    (kits[0].path / "kit.json").write_text("{")
    good, damaged = all_kits()
    assert [kit.id for kit in good] == [kits[1].id] == [choose_kit(None).id]
    assert "kit.json is not as it was written" in str(damaged[kits[0].path])
    with pytest.raises(NoKit, match=f"{kits[0].id}' is damaged"):
        choose_kit(kits[0].id[:9])
    (kits[1].path / "kit.json").write_text("{")
    with pytest.raises(NoKit, match=f"{kits[1].id}' is damaged"):
        choose_kit(None)


def test_two_parts_may_give_the_same_file_but_not_different_ones() -> None:
    def giving(text: str) -> Part:
        def build(work: Path, out: Path, report: Report) -> None:
            (out / "licenses").mkdir()
            (out / "licenses" / "zlib.txt").write_text(text)

        return Part(f"licence-{text}", {}, build, 1.0)

    def composed(*texts: str) -> Kit:
        parts = [writing("a", []), *map(giving, texts)]
        return compose("linux-x86_64", parts, [build_part(part, Silent()) for part in parts], FACTS)

    assert (composed("x", "x").path / "members/licenses/zlib.txt").read_text() == "x"
    with pytest.raises(NoKit, match="different files named 'zlib.txt'"):
        composed("x", "y")


def kit_for(target: str, text: str, llama: str = "0.3.36") -> Kit:
    """One with bindings, so that it runs here if it is for here."""
    part = writing(text, [])

    def build(work: Path, out: Path, report: Report) -> None:
        part.build(work, out, report)
        (out / "bindings").mkdir()
        (out / "bindings" / "of.py").write_text("")

    whole = replace(part, build=build, target=target)
    versions = {**FACTS["versions"], "llama_cpp": llama}  # type: ignore[dict-item]
    return compose(target, [whole], [build_part(whole, Silent())], {**FACTS, "versions": versions})


def test_each_target_has_a_kit_in_use_and_what_is_shown_is_this_machines() -> None:
    other = next(name for name in TARGETS if name != builder().name)
    foreign = kit_for(other, "foreign")
    assert choose_kit(None).id == foreign.id
    own = kit_for(builder().name, "own")
    assert current_kits() == {other: foreign.path, builder().name: own.path}
    assert choose_kit(None).id == own.id and find_kit(other).id == foreign.id
    assert own.runs_here and not foreign.runs_here


def test_models_for_another_system_are_looked_at_by_this_machines_engine() -> None:
    other = next(name for name in TARGETS if name != builder().name)
    foreign = kit_for(other, "foreign")
    assert examiner(foreign) == foreign
    own = kit_for(builder().name, "own")
    assert examiner(foreign) == examiner(own) == own
    assert examiner(kit_for(other, "newer", llama="9.9")).target == other


def test_parts_for_different_systems_have_different_folders() -> None:
    parts = [replace(writing("same", []), target=name, inputs={"target": name}) for name in TARGETS]
    assert len({build_part(part, Silent()) for part in parts}) == len({part.folder for part in parts}) == len(TARGETS)


def test_no_kit_says_how_to_get_one() -> None:
    with pytest.raises(NoKit, match="run `mkllm kit build`"):
        find_kit("linux-x86_64")
    other = next(name for name in TARGETS if name != builder().name)
    with pytest.raises(NoKit, match=f"run `mkllm kit build --target {other}`"):
        find_kit(other)
    with pytest.raises(NoKit, match="0 kits match 'abc'"):
        choose_kit("abc")


def test_kit_json_is_deterministic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for name in ("one", "two"):
        monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / name))
        part = writing("a", [])
        kit = compose("linux-x86_64", [part], [build_part(part, Silent())], FACTS)
        texts.append((kit.path / "kit.json").read_text())
    assert texts[0] == texts[1] and json.loads(texts[0])["files"]["bootloader"]["size"] == len("abootloader")


def test_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    first = digest([tmp_path / "a"], tmp_path)
    assert first != digest([tmp_path / "b"], tmp_path)
    (tmp_path / "a").write_text("2")
    assert first != digest([tmp_path / "a"], tmp_path)
