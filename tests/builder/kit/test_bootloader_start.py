"""Ways to start the file, and what may happen to it while it runs."""

import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.kit.variants import host_flags
from mkllm.runtime.hardware import cpuid

LOADER = Path("/lib64/ld-linux-x86-64.so.2")


def test_through_a_symbolic_link(sandbox: Any) -> None:
    link = sandbox.folder / "other name"
    link.symlink_to(sandbox.program)
    seen = json.loads(sandbox.run("facts", words=[str(link)]).stdout)
    assert seen["argv"][0] == str(link) and seen["env"]["MKLLM_FILE"] == str(sandbox.program)


def test_through_path(sandbox: Any) -> None:
    path = f"{sandbox.folder}:{os.environ['PATH']}"
    done = sandbox.run(words=["sh", "-c", "mistral facts"], PATH=path)
    seen = json.loads(done.stdout)
    assert seen["argv"][0] == "mistral" and seen["env"]["MKLLM_FILE"] == str(sandbox.program)


@pytest.mark.parametrize("name", ["", "-", "a b", "/", "../nowhere/x", "ä" * 200])
def test_odd_name(sandbox: Any, name: str) -> None:
    done = sandbox.run(words=["bash", "-c", f"exec -a '{name}' ./mistral facts"])
    assert json.loads(done.stdout)["argv"][0] == name


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(sandbox: Any, closed: str) -> None:
    for home in (str(sandbox.home), None):
        done = sandbox.run(words=["sh", "-c", f"exec ./mistral exit 3 {closed}"], HOME=home)
        assert done.returncode == 3
    done = sandbox.run(words=["sh", "-c", f"exec ./mistral facts {closed}"])
    assert done.returncode == 0


def test_children_are_heeded_though_they_were_ignored(sandbox: Any) -> None:
    """Ignored, they would all seem to end with status 0; other signals stay as they are."""
    words = ["bash", "-c", "trap '' CHLD HUP; exec ./mistral facts"]
    for home in (str(sandbox.home), str(sandbox.home), None):  # the first makes the home, the second finds it
        ignored = json.loads(sandbox.run(words=words, HOME=home).stdout)["ignored"]
        assert signal.SIGCHLD not in ignored and signal.SIGHUP in ignored


def test_the_processor_is_asked_itself(sandbox: Any) -> None:
    """It has at least what the kernel has left switched on; what an outer program left counts for nothing."""
    for outer in ({}, {"MKLLM_CPUID": "0,0,0,0,0,0"}):
        seen = json.loads(sandbox.run("facts", **outer).stdout)
        assert cpuid.features(seen["env"]["MKLLM_CPUID"]) >= host_flags() & cpuid.FEATURES.keys()


@pytest.mark.parametrize("home", ["kept", None])
@pytest.mark.parametrize("harm", ["deleted", "replaced"])
def test_file_is_gone_while_it_runs(sandbox: Any, home: str | None, harm: str) -> None:
    """Modules are imported from it for hours; the one that was started keeps serving."""
    process = sandbox.start("late", **({} if home else {"HOME": None}))
    assert process.stdout.readline() == "ready\n"
    if harm == "replaced":
        other = sandbox.folder / "other"
        other.write_bytes(b"something else")
        os.replace(other, sandbox.program)
    else:
        sandbox.program.unlink()
    out, err = process.communicate("go\n", timeout=30)
    assert (out, err, process.returncode) == ("1\n", "", 0)


@pytest.mark.skipif(not LOADER.exists(), reason="the program loader lies elsewhere on this system")
def test_through_the_program_loader(sandbox: Any) -> None:
    for name in (str(sandbox.program), "./mistral"):
        seen = json.loads(sandbox.run("facts", words=[str(LOADER), name]).stdout)
        assert seen["env"]["MKLLM_FILE"] == str(sandbox.program)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(sandbox: Any) -> None:
    sandbox.program.chmod(0o111)
    done = sandbox.run("facts")
    assert done.returncode == 70 and "chmod +r" in done.stderr


def test_elevated_program_trusts_no_environment(sandbox: Any) -> None:
    """Set-user-ID: the environment may be an attacker's; PyInstaller then checks what program the parent is."""
    sandbox.program.chmod(0o755 | stat.S_ISUID)
    done = sandbox.run("facts", MKLLM_RUNTIME_DIR=str(sandbox.folder))
    seen = json.loads(done.stdout)
    assert seen["env"]["MKLLM_HOME_KIND"] == "temporary"
    assert not seen["home"].startswith(str(sandbox.folder)) or seen["home"].startswith("/tmp/mkllm-")
    assert not Path(seen["home"]).exists()


def test_copy_under_another_name_shares_the_home(sandbox: Any) -> None:
    homes = set()
    for name in ("one", "two"):
        copy = sandbox.folder / name
        shutil.copy(sandbox.program, copy)
        homes.add(json.loads(sandbox.run("facts", words=[str(copy)]).stdout)["home"])
    assert len(homes) == 1


def test_messages_begin_with_the_name_it_was_called_by(sandbox: Any) -> None:
    sandbox.program.write_bytes(sandbox.program.read_bytes()[:-1])
    link = sandbox.folder / "helper"
    link.symlink_to(sandbox.program)
    for words, name in (([str(link)], "helper"), (["bash", "-c", "exec -a '' ./mistral"], "mistral")):
        done = subprocess.run(words, capture_output=True, text=True, cwd=sandbox.folder)
        assert done.stderr.startswith(f"{name}: this file is truncated")
