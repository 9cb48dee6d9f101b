"""Where the entry puts the runtime's files on Windows: kept, temporary, and what happens to both."""

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

SECONDS = 30
NO_PLACE = 71
OLD_SECONDS = 3600


def gone(*paths: Path) -> bool:
    """Whether they are, within a while: guardians remove what is temporary after the program has ended."""
    end = time.monotonic() + SECONDS
    while any(path.exists() for path in paths):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def empty(folder: Path) -> bool:
    """Likewise, for all that is in the folder."""
    end = time.monotonic() + SECONDS
    while list(folder.iterdir()):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_a_cache_is_filled_once_and_used_again(sandbox: Any) -> None:
    seen = sandbox.facts()
    assert seen["home"] == sandbox.wine.path(sandbox.home) == seen["env"]["MKLLM_HOME"]
    assert seen["env"]["MKLLM_HOME_KIND"] == "cache" and seen["env"]["MKLLM_FILE"] == sandbox.wine.path(sandbox.program)
    assert all(name.lower().startswith(seen["home"].lower() + "\\") for name in seen["libraries"])
    assert not [name for name in seen["env"] if name.startswith("_PYI") or "GUARDED" in name] and seen["utf8"] == 1
    assert (sandbox.home / "a folder" / "Grüße.txt").read_text("utf-8") == "Grüße"
    before = {path: path.stat().st_mtime_ns for path in sandbox.home.rglob("*")}
    sandbox.facts()
    assert {path: path.stat().st_mtime_ns for path in sandbox.home.rglob("*")} == before and not sandbox.leftovers()


def test_words_and_the_exit_code(sandbox: Any) -> None:
    seen = sandbox.facts("facts", "*", "Grüße aus 東京", 'with "quotes"', "")
    assert seen["argv"][1:] == ["facts", "*", "Grüße aus 東京", 'with "quotes"', ""]
    assert sandbox.run("exit", "7").returncode == 7


def test_the_program_is_one_process(sandbox: Any) -> None:
    """The one that was started, so that who ends it has ended it."""
    seen = sandbox.facts()
    assert seen["pid"] == int((sandbox.folder / "pid").read_text())


def test_a_chosen_folder(sandbox: Any) -> None:
    chosen = sandbox.folder / "Grüße aus 東京"
    seen = sandbox.facts(MKLLM_RUNTIME_DIR=sandbox.wine.path(chosen))
    assert seen["home"] == sandbox.wine.path(chosen / sandbox.home.name) and not sandbox.cache.exists()
    relative = sandbox.facts(MKLLM_RUNTIME_DIR="one/an other")
    assert relative["home"] == sandbox.wine.path(sandbox.folder / "one" / "an other" / sandbox.home.name)


@pytest.mark.parametrize(
    "name,how",
    [
        ("python311.dll", "truncated"),
        ("base_library.zip", "removed"),
        (".complete", "truncated"),
        ("a folder/Grüße.txt", "removed"),
    ],
)
def test_a_home_that_is_not_whole_is_filled_anew(sandbox: Any, name: str, how: str) -> None:
    sandbox.facts()
    file, whole = sandbox.home / name, (sandbox.home / name).read_bytes()
    (sandbox.home / "marker").touch()
    file.unlink() if how == "removed" else file.write_bytes(whole[:-1])
    sandbox.facts()
    assert file.read_bytes() == whole and not (sandbox.home / "marker").exists() and not sandbox.leftovers()


def test_a_home_of_another_runtime_is_filled_anew(sandbox: Any) -> None:
    """Which a kit of the same name would never be, but for a defect."""
    sandbox.facts()
    note = sandbox.home / ".complete"
    note.write_text(re.sub("pkg=.{8}", "pkg=00000000", note.read_text()))
    sandbox.facts()
    assert "pkg=00000000" not in note.read_text() and not sandbox.leftovers()


def test_several_at_once(sandbox: Any) -> None:
    started = [sandbox.start("facts") for _ in range(5)]
    for process in started:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0 and error == b"", error
        assert json.loads(out)["home"] == sandbox.wine.path(sandbox.home)
    assert not sandbox.leftovers()


def test_old_drafts_are_swept_and_fresh_ones_are_not(sandbox: Any) -> None:
    names = [f"_MEI0123456789abcd.{digits}.{kind}" for digits, kind in (("000001", "partial"), ("000002", "old"))]
    fresh = sandbox.cache / "_MEI0123456789abcd.000003.partial"
    for folder in (*(sandbox.cache / name for name in names), sandbox.cache / "_MEIelsewhere", fresh):
        (folder / "below").mkdir(parents=True)
        (folder / "below" / "file").touch()
        if folder is not fresh:
            os.utime(folder, (time.time() - OLD_SECONDS,) * 2)
    sandbox.facts()
    assert sandbox.leftovers() == sorted(["_MEIelsewhere", fresh.name])


def test_a_home_that_is_being_removed_is_not_used(sandbox: Any) -> None:
    """Who removes old homes has the lock alone; the launch takes another place."""
    sandbox.facts()
    code = (
        "import sys; from ctypes import *; import msvcrt; file = open(sys.argv[1], 'r+b'); "
        "place = (c_ulonglong * 4)(0, 0, 1 << 62, 0); "
        "handle = c_void_p(msvcrt.get_osfhandle(file.fileno())); "
        "print(windll.kernel32.LockFileEx(handle, 3, 0, 1, 0, place), flush=True); input()"
    )
    holder = sandbox.wine.popen(sandbox.wine.python, "-c", code, sandbox.wine.path(sandbox.home / ".lock"))
    try:
        assert holder.stdout.readline().strip() == b"1"
        seen = sandbox.facts()
        assert seen["env"]["MKLLM_HOME_KIND"] == "temporary"
    finally:
        holder.communicate(b"\n")


@pytest.fixture
def without_cache(sandbox: Any) -> Any:
    """Where the cache would be is a file."""
    shutil.rmtree(sandbox.folder / "local")
    (sandbox.folder / "local").touch()
    return sandbox


def test_a_temporary_home_is_removed_at_the_end(without_cache: Any) -> None:
    seen = without_cache.facts()
    assert seen["env"]["MKLLM_HOME_KIND"] == "temporary"
    assert re.fullmatch(r"mkllm-\d+-[0-9a-f]{6}", seen["home"].rpartition("\\")[2])
    assert f"-{seen['pid']}-" in seen["home"] and empty(without_cache.temporary)


def test_a_temporary_home_of_a_program_that_was_killed(without_cache: Any) -> None:
    process = without_cache.start("wait")
    home = without_cache.temporary / json.loads(process.stdout.readline())["home"].rpartition("\\")[2]
    assert (home / "python311.dll").exists()
    pid = (without_cache.folder / "pid").read_text().strip()
    without_cache.wine.run("taskkill", "/f", "/pid", pid)
    process.communicate(timeout=60)
    assert gone(home)


def test_temporary_homes_that_are_left_over_are_swept(without_cache: Any) -> None:
    """Those that nobody uses and this program has surely made; the one that runs keeps its own."""
    temporary = without_cache.temporary
    left = [temporary / "mkllm-1-000001", temporary / "mkllm-1-000002"]
    others = [temporary / "mkllm-1-00000x", temporary / "mkllm-notes", temporary / "mkllm-1-000003"]
    for folder in (*left, *others):
        folder.mkdir()
    (left[0] / ".lock").touch()
    os.utime(left[1], (time.time() - OLD_SECONDS,) * 2)  # ended before it had one
    process = without_cache.start("wait")
    running = temporary / json.loads(process.stdout.readline())["home"].rpartition("\\")[2]
    without_cache.facts()
    assert running.exists() and gone(*left) and all(folder.exists() for folder in others)
    out, error = process.communicate(b"\n", timeout=60)
    assert out.decode().split() == ["imported"] and error == b"" and gone(running)


def test_beside_the_file(without_cache: Any) -> None:
    seen = without_cache.facts(TEMP="", TMP="")
    assert seen["env"]["MKLLM_HOME_KIND"] == "temporary"
    home = Path(without_cache.folder / seen["home"].rpartition("\\")[2])
    assert seen["home"] == without_cache.wine.path(home) and gone(home)


def test_no_place(without_cache: Any) -> None:
    wine, long = without_cache.wine, "x" * 161
    without_cache.temporary.rmdir()
    without_cache.temporary.touch()
    deep = without_cache.folder / ("y" * 150)
    deep.mkdir()
    shutil.copy(without_cache.program, deep / "mistral.exe")
    done = without_cache.run("facts", program=deep / "mistral.exe", MKLLM_RUNTIME_DIR=f"C:\\{long}")
    assert done.returncode == NO_PLACE and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith(f"mistral.exe: there is no place for the runtime's files (C:\\{long}: its name is ")
    for place in (without_cache.folder / "local" / "mkllm" / "runtime", without_cache.temporary, deep):
        assert f"{wine.path(place)}: " in done.stderr
    next_thing = r"\): set MKLLM_RUNTIME_DIR to a folder that you may write to, with \d+ MB free\n"
    assert re.search(next_thing + r"\Z", done.stderr)
