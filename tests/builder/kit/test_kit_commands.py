"""`mkllm kit …` with parts that are built in no time: what it prints, what it refuses, what it leaves."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mkllm.builder import cli
from mkllm.builder.kit import build
from mkllm.builder.kit.part import Part, Report
from mkllm.builder.kit.target import TARGETS, builder
from mkllm.builder.version import version

from .test_store import writing

Run = Callable[..., int]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts that take no time, in place of the real ones; the list tells which were built."""
    calls: list[str] = []

    def empty(name: str, *modules: str) -> Part:
        def make(work: Path, out: Path, report: Report) -> None:
            calls.append(name)
            (work / "object").touch()
            (out / "native").mkdir()
            for module in modules:
                (out / "native" / module).write_text("a module")

        return Part(name, {"version glslc": "2031.4"} if modules else {}, make, 1.0)

    monkeypatch.setattr(build, "fetch", lambda sdist, log: Path(sdist.filename))
    monkeypatch.setattr(build.native, "part", lambda target, variants, sdist: writing(variants, calls))
    monkeypatch.setattr(build.vulkan, "part", lambda target, sdist: empty("vulkan", "libggml-vulkan.so"))
    monkeypatch.setattr(build.cuda, "part", lambda target, sdist, names: empty(f"cuda for {names}", "libggml-cuda.so"))
    monkeypatch.setattr(build.web, "part", lambda sdist: empty("web"))
    monkeypatch.setattr(build.bootloader, "part", lambda target, sdist: empty("bootloader"))
    monkeypatch.setattr(build.python, "part", lambda target, folder: empty("python"))
    monkeypatch.setattr(build.runtime_pkg, "part", lambda target, python: replace(empty("runtime"), needs=(python,)))
    monkeypatch.setattr(build.runtime_pkg, "glibc_of", lambda path: "2.35")
    monkeypatch.setattr(build.promise, "check_files", lambda target, folders: None)
    return calls


@pytest.fixture
def mkllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `mkllm kit` in this process, with a cache of its own; returns the exit code."""
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: cli._run(["kit", *map(str, args)])


def test_build_list_and_show(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build") == 0
    assert built == ["all", "web", "bootloader", "python", "runtime"]
    kit = capfd.readouterr().out.split()[1]
    assert mkllm("build", "--variants", "host") == 0
    current = capfd.readouterr().out.split()[1]
    assert mkllm("list") == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if kit in line} == {kit}
    assert {line.split()[0] for line in lines if current in line} == {"*"}
    assert mkllm("list", "--json") == 0
    assert {(one["id"], one["in_use"]) for one in json.loads(capfd.readouterr().out)} == {(kit, False), (current, True)}
    assert mkllm("show") == 0
    assert current in capfd.readouterr().out
    assert mkllm("show", kit[:6], "--json") == 0
    assert json.loads(capfd.readouterr().out)["id"] == kit


def test_a_kit_for_another_system_stands_beside_this_ones(
    built: list[str], mkllm: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = next(name for name in TARGETS if name != builder().name)
    assert mkllm("build") == 0
    own = capfd.readouterr().out.split()[1]
    assert mkllm("build", "--target", other, "--variants", "all") == 0
    words = capfd.readouterr().out.split()
    assert words[3] == f"{other}:"
    assert mkllm("list", "--json") == 0
    listed = json.loads(capfd.readouterr().out)
    assert {(one["target"], one["in_use"]) for one in listed} == {(builder().name, True), (other, True)}
    assert mkllm("show") == 0
    assert own in capfd.readouterr().out


def test_the_variants_of_this_machine_are_none_of_another_processor(
    built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    other = next(name for name, target in TARGETS.items() if target.machine != builder().machine)
    assert mkllm("build", "--target", other, "--variants", "host") == 20
    assert (
        f"whose processor is none for {other!r}: choose 'all', or name some of " in capfd.readouterr().err
        and built == []
    )


def test_a_target_without_a_recipe(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build", "--target", "amiga") == 20
    assert "there is no recipe for the target 'amiga': choose " in capfd.readouterr().err and built == []


def test_a_kit_with_another_backend(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build") == 0
    assert mkllm("build", "--backends", "vulkan") == 0
    assert built == ["all", "web", "bootloader", "python", "runtime", "vulkan"]
    capfd.readouterr()
    assert mkllm("show", "--json") == 0
    shown = json.loads(capfd.readouterr().out)
    assert "vulkan" in shown["backends"] and shown["version glslc"] == "2031.4"
    assert mkllm("list") == 0
    line = next(line for line in capfd.readouterr().out.splitlines() if shown["id"] in line)
    assert line.rstrip().endswith(" CPU variants, vulkan")


def test_a_kit_with_two_more_backends(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build", "--backends", "vulkan,cuda", "--cuda-architectures", "75-real") == 0
    assert built == ["all", "cuda for 75-real", "vulkan", "web", "bootloader", "python", "runtime"]
    capfd.readouterr()
    assert mkllm("show", "--json") == 0
    assert {"cuda", "vulkan"} <= set(json.loads(capfd.readouterr().out)["backends"])


def test_a_backend_that_is_not_known(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build", "--backends", "cpu,rocm") == 20
    expected = "mkllm: there is no backend called 'rocm': those that a kit can have are cpu, cuda, metal, vulkan\n"
    assert capfd.readouterr().err == expected and built == []


def test_build_a_wheel(built: list[str], mkllm: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "wheels"
    assert mkllm("build", "--wheel", folder) == 0
    name = f"mkllm_kit_linux_x86_64-{version()}-py3-none-any.whl"
    assert capfd.readouterr().out.splitlines()[1] == f"wheel: {folder / name}"
    assert [path.name for path in folder.iterdir()] == [name] and zipfile.is_zipfile(folder / name)


def test_a_place_for_the_wheel_that_cannot_be_written_is_found_before_building(
    built: list[str], mkllm: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert mkllm("build", "--wheel", "/proc/none") == 13
    assert capfd.readouterr().err.startswith("mkllm: no wheel can be written into '/proc/none' (No such file")
    assert built == []


def test_intermediate_files(built: list[str], mkllm: Run, tmp_path: Path) -> None:
    assert mkllm("build", "--keep-work") == 0
    assert (tmp_path / "cache/work/web/object").exists()
    (tmp_path / "cache/parts").rename(tmp_path / "parts")
    assert mkllm("build") == 0
    assert not (tmp_path / "cache/work/web").exists()


def test_every_command_has_the_common_options(built: list[str], mkllm: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert mkllm("build", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    for command in ("list", "show"):
        assert mkllm(command, "--debug", "-q") == 0


def test_a_damaged_kit_does_not_hide_the_others(
    built: list[str], mkllm: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert mkllm("build") == 0
    kit = capfd.readouterr().out.split()[1]
    damaged = tmp_path / "cache/kits/linux-x86_64-0123456789abcdef"
    damaged.mkdir()
    (damaged / "kit.json").write_text("{}")
    assert mkllm("list") == 0
    printed = capfd.readouterr()
    assert kit in printed.out and printed.err.startswith(f"not listed: the kit {str(damaged)!r} is damaged")
    assert mkllm("show") == 0
    assert kit in capfd.readouterr().out
    assert mkllm("show", "0123") == 20
    assert str(damaged) in capfd.readouterr().err


def test_no_home_folder(
    built: list[str], mkllm: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MKLLM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert mkllm("list") == 13
    assert capfd.readouterr().err == (
        "mkllm: this user has no home folder for mkllm's cache: set MKLLM_CACHE to a folder that can be written\n"
    )


TWO = """
import sys
from mkllm.builder.kit.report import kit_report
with kit_report() as report:
    report.step(f"begun by {sys.argv[1]}")
    report.log.flush()
    print("begun", flush=True)
    sys.stdin.readline()
    report.step(f"ended by {sys.argv[1]}")
"""


def test_two_builds_do_not_share_the_log(mkllm: Run, tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-c", TWO, name], stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )

    log = tmp_path / "cache/logs/kit-build.log"
    with start("one") as one:
        assert one.stdout and one.stdout.readline() == "begun\n"
        with start("two") as two:
            assert two.stderr and two.stderr.readline() == "another build of a kit is going on; waiting for its end\n"
            assert log.read_text() == "# begun by one\n"
            one.communicate("\n")
            two.communicate("\n")
    assert log.read_text() == "# begun by two\n# ended by two\n"
