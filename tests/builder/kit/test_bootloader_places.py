"""Where the entry puts the runtime's files, and what it does when a place does not serve."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOME_NAME = "_MEI0123456789abcd"
NO_PLACE, OLD_SYSTEM = 71, 72
Namespace = Callable[[str], list[str]]


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done
    return dict(json.loads(done.stdout))


def kind(sandbox: Any, **changes: str | None) -> str:
    return str(facts(sandbox.run("facts", **changes))["env"]["MKLLM_HOME_KIND"])


def test_cache(sandbox: Any) -> None:
    for _ in range(2):
        seen = facts(sandbox.run("facts", "a", "ä b"))
        assert seen["argv"] == [str(sandbox.program), "facts", "a", "ä b"] and seen["utf8"] == 1
        assert seen["home"] == str(sandbox.cache / HOME_NAME)
        assert seen["env"]["MKLLM_HOME"] == seen["home"] and seen["env"]["MKLLM_HOME_KIND"] == "cache"
        assert seen["env"]["MKLLM_FILE"] == str(sandbox.program)
        assert "MKLLM_GUARDIAN_FD" not in seen["env"]
    assert not sandbox.leftovers()
    assert (sandbox.cache / HOME_NAME).stat().st_mode & 0o777 == 0o700
    assert sandbox.cache.stat().st_mode & 0o777 == 0o700


def test_libraries_come_from_the_home_and_no_search_path_is_set(sandbox: Any) -> None:
    for home in (str(sandbox.home), None):
        seen = facts(sandbox.run("facts", HOME=home))
        own = [path for path in seen["libraries"] if path.startswith(seen["home"])]
        system = {os.path.basename(path).split(".so")[0] for path in seen["libraries"] if path not in own}
        assert system <= {"libc", "libm", "libdl", "libpthread", "libutil", "librt", "ld-linux-x86-64"}
        assert any("libcrypto" in path for path in own) and any("libz" in path for path in own)
        assert not any(name.startswith("LD_") for name in seen["env"])


def test_what_an_outer_frozen_program_left_is_ignored(sandbox: Any) -> None:
    outer = {
        "_PYI_ARCHIVE_FILE": "/proc/self/exe",
        "_PYI_PARENT_PROCESS_LEVEL": "0",
        "_PYI_APPLICATION_HOME_DIR": "/nowhere/_MEI00000000000000",
        "PYINSTALLER_RESET_ENVIRONMENT": "1",
        "MKLLM_GUARDIAN_FD": "0",
        "MKLLM_HOME": "/nowhere",
        "LD_LIBRARY_PATH": "/nowhere",
    }
    seen = facts(sandbox.run("facts", **outer))
    assert seen["home"] == str(sandbox.cache / HOME_NAME)
    assert "MKLLM_GUARDIAN_FD" not in seen["env"] and "PYINSTALLER_RESET_ENVIRONMENT" not in seen["env"]


def test_chosen_folder_comes_first(sandbox: Any) -> None:
    chosen = sandbox.folder / "chosen" / "deep"
    assert facts(sandbox.run("facts", MKLLM_RUNTIME_DIR=str(chosen)))["home"] == str(chosen / HOME_NAME)
    assert not sandbox.cache.exists()


def test_chosen_folder_may_be_relative(sandbox: Any) -> None:
    for chosen in ("chosen", "./deep/chosen"):
        home = Path(facts(sandbox.run("facts", MKLLM_RUNTIME_DIR=chosen))["home"])
        assert home.is_absolute() and home.samefile(sandbox.folder / chosen / HOME_NAME)
    assert not sandbox.cache.exists()


@pytest.mark.parametrize(
    "name", [b"a:b", b"h\xe9", b"\xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"]
)
def test_names_that_cannot_be_passed_on(sandbox: Any, name: bytes) -> None:
    """Lists of files are split at colons, and PyInstaller's loader reads names as UTF-8: the next place is taken."""
    home = sandbox.home / os.fsdecode(name)
    home.mkdir()
    assert kind(sandbox, HOME=str(home), MKLLM_RUNTIME_DIR=os.fsdecode(name)) == "temporary"
    assert not list(home.iterdir()) and not sandbox.leftovers()


def test_names_of_any_language(sandbox: Any) -> None:
    home = sandbox.home / "ä €\ud7ff\ue000\uffff 😀\U0010ffff"
    home.mkdir()
    assert facts(sandbox.run("facts", HOME=str(home)))["home"] == str(home / ".cache/mkllm/runtime" / HOME_NAME)


def test_xdg_cache_home(sandbox: Any) -> None:
    other = sandbox.folder / "xdg"
    other.mkdir()
    assert facts(sandbox.run("facts", XDG_CACHE_HOME=str(other)))["home"] == str(other / "mkllm/runtime" / HOME_NAME)


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null/home"])
def test_without_a_home_of_the_user(sandbox: Any, home: str | None) -> None:
    seen = facts(sandbox.run("facts", HOME=home))
    assert seen["env"]["MKLLM_HOME_KIND"] == "temporary" and seen["env"]["MKLLM_GUARDIAN_FD"].isdigit()
    assert seen["home"].startswith(f"{sandbox.temporary}/mkllm-")
    assert not sandbox.leftovers()


def test_damaged_or_foreign_home_is_made_again(sandbox: Any) -> None:
    sandbox.run("exit", "0")
    home = sandbox.cache / HOME_NAME
    library = next(home.glob("libpython*"))
    for harm in (lambda: library.write_bytes(b""), library.unlink, (home / ".complete").unlink):
        harm()
        assert sandbox.run("exit", "0").returncode == 0
        assert library.stat().st_size > 1_000_000
    (home / ".complete").write_text("mkllm/1 pkg=00000000 files=00000000\n")
    assert kind(sandbox) == "cache" and not sandbox.leftovers()


def test_home_in_use_is_locked(sandbox: Any) -> None:
    with sandbox.start("wait", "30") as process:
        assert process.stdout.readline()
        lock = str(sandbox.cache / HOME_NAME / ".lock")
        taken = subprocess.run(["flock", "--nonblock", lock, "true"])
        shared = subprocess.run(["flock", "--shared", "--nonblock", lock, "true"])
        process.kill()
    free = subprocess.run(["flock", "--nonblock", lock, "true"])
    assert (taken.returncode, shared.returncode, free.returncode) == (1, 0, 0)


def distrusted(case: str, sandbox: Any) -> None:
    cache, home = sandbox.cache, sandbox.cache / HOME_NAME
    cache.mkdir(parents=True, mode=0o700)
    elsewhere = sandbox.folder / "elsewhere"
    elsewhere.mkdir()
    if case == "symbolic link in its place":
        home.symlink_to(elsewhere)
    elif case == "home that others may write to":
        home.mkdir()
        home.chmod(0o777)
    elif case == "cache that others may write to":
        cache.chmod(0o777)
    elif case == "file in its place":
        cache.rmdir()
        cache.write_text("")
    elif os.geteuid() != 0:
        pytest.skip("only root can make a folder of another user's")
    elif case == "home of another user":
        home.mkdir(mode=0o700)
        os.chown(home, 12345, 12345)
    elif case == "cache of another user":
        os.chown(cache, 12345, 12345)


@pytest.mark.parametrize(
    "case",
    [
        "symbolic link in its place",
        "home that others may write to",
        "cache that others may write to",
        "file in its place",
        "home of another user",
        "cache of another user",
    ],
)
def test_distrusted_cache_is_left_alone(sandbox: Any, case: str) -> None:
    distrusted(case, sandbox)
    assert kind(sandbox) == "temporary"
    assert not list((sandbox.folder / "elsewhere").iterdir())
    assert not list(sandbox.temporary.iterdir())


def test_read_only_cache(sandbox: Any, in_namespace: Namespace) -> None:
    script = f"mount -t tmpfs -o ro none {sandbox.home}; exec {sandbox.program} facts"
    seen = facts(sandbox.run(words=in_namespace(script)))
    assert seen["env"]["MKLLM_HOME_KIND"] == "temporary" and not sandbox.leftovers()


def hostile(sandbox: Any, options: str) -> str:
    """A script in which every place that can be written to is mounted with these options."""
    mounts = [sandbox.home, sandbox.temporary, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    mounts = [path for path in mounts if not str(sandbox.folder).startswith(f"{path}/")]
    program = "/mnt/mistral"
    return (
        f"mount -t tmpfs none /mnt; cp {sandbox.program} {program}; mount -o remount,ro /mnt\n"
        + "".join(f"mount -t tmpfs -o {options} none {path}\n" for path in mounts)
        + f"export MOUNTS='{' '.join(map(str, mounts))}'\n"
    )


LEFT = "for place in $MOUNTS; do find $place -name 'mkllm-*' -o -name '_MEI*'; done >&2"


@pytest.fixture
def aside(sandbox: Any) -> Any:
    """The same sandbox at a place that hostile mounts do not hide."""
    folder = Path("/var/lib") if os.geteuid() == 0 else Path.home()
    moved = folder / f"mkllm-test-{os.getpid()}"
    shutil.copytree(sandbox.folder, moved)
    yield type(sandbox)(moved)
    shutil.rmtree(moved)


def test_nothing_may_be_executed_anywhere(aside: Any, in_namespace: Namespace) -> None:
    """Read-only root, every writable place mounted noexec: the files live in memory."""
    script = f"{hostile(aside, 'noexec')} /mnt/mistral facts; {LEFT}"
    done = aside.run(words=in_namespace(script))
    seen = facts(done)
    assert seen["env"]["MKLLM_HOME_KIND"] == "memory" and done.stderr == ""
    assert any("memfd:" in path for path in seen["libraries"]) or not any(
        path.startswith(seen["home"]) for path in seen["libraries"]
    )


def test_no_room_anywhere(aside: Any, in_namespace: Namespace) -> None:
    script = f"{hostile(aside, 'size=1m')} /mnt/mistral facts; {LEFT}"
    done = aside.run(words=in_namespace(script))
    assert facts(done)["env"]["MKLLM_HOME_KIND"] == "memory" and done.stderr == ""


def test_disk_that_is_full_in_the_middle(aside: Any, in_namespace: Namespace) -> None:
    """Inodes run out, not bytes, so it shows only while extracting: nothing is left, the next place is taken."""
    script = f"{hostile(aside, 'nr_inodes=12')} /mnt/mistral facts; {LEFT}"
    done = aside.run(words=in_namespace(script))
    assert done.returncode == NO_PLACE
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("mistral: there is no place")
    script = (
        f"mount -t tmpfs -o nr_inodes=12 none {aside.home}; {aside.program} facts; find {aside.home} -name '*MEI*' >&2"
    )
    done = aside.run(words=in_namespace(script))
    assert facts(done)["env"]["MKLLM_HOME_KIND"] == "temporary" and done.stderr == "" and not aside.leftovers()


def test_no_place_at_all(aside: Any, in_namespace: Namespace) -> None:
    script = f"{hostile(aside, 'ro')} exec /mnt/mistral facts"
    done = aside.run(words=in_namespace(script))
    assert done.returncode == NO_PLACE and not done.stdout
    assert done.stderr.count("\n") == 1
    assert "set MKLLM_RUNTIME_DIR to a folder" in done.stderr and "/dev/shm: Read-only file system" in done.stderr
    script = f"{hostile(aside, 'ro')} cd /mnt; MKLLM_RUNTIME_DIR=a:b exec /mnt/mistral facts"
    done = aside.run(words=in_namespace(script))
    assert done.returncode == NO_PLACE and "(/mnt/a:b: a colon would split it in lists of files, " in done.stderr


def test_room_for_native_modules_is_reckoned(
    aside: Any, in_namespace: Namespace, assemble: Callable[..., bytes], bootloader_folder: Path, frozen: Path
) -> None:
    """A place that holds the runtime's own files, but not the engine with them, is no place."""
    members = {
        "native/libggml-cpu-a.so": bytes(9 << 20),
        "native/libggml-cpu-b.so": bytes(60 << 20),
        "native/engine": b"",
    }
    loader, pkg = (bootloader_folder / "bootloader").read_bytes(), frozen.read_bytes()
    aside.program.write_bytes(assemble(loader, pkg, members))
    for size, expected in (((len(pkg) >> 20) + 55, "temporary"), ((len(pkg) >> 20) + 66, "cache")):
        script = f"mount -t tmpfs -o size={size}m none {aside.home}; exec {aside.program} facts"
        assert facts(aside.run(words=in_namespace(script)))["env"]["MKLLM_HOME_KIND"] == expected


def test_old_c_library(sandbox: Any, assemble: Callable[..., bytes], bootloader_folder: Path, frozen: Path) -> None:
    pkg = frozen.read_bytes()
    start = pkg.index(b"pyi-mkllm-glibc 2.") + 16
    newer = pkg[:start] + b"9" + pkg[start + 1 :]
    sandbox.program.write_bytes(assemble((bootloader_folder / "bootloader").read_bytes(), newer))
    done = sandbox.run("facts")
    assert done.returncode == OLD_SYSTEM and not done.stdout
    assert done.stderr.startswith("mistral: this system's C library is glibc 2.") and "needs 9." in done.stderr
