"""Hard machines: nothing may be executed where one may write, hardly any room, no home, a read-only disk."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ASK = "-p 'What is mkllm?' --temperature 0"
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/home")
LEFT = "find $PLACES -name 'mkllm-*' -o -name '_MEI*'"
Run = Callable[[str, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hardened(demo: Path) -> Run:
    """`hardened(options, script)`: the script where the demo is `./demo` in a read-only folder, and each place that may
    be written to is an empty file system mounted with these options. Skips where mounting is refused."""
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    tried = subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")

    def run(options: str, script: str) -> subprocess.CompletedProcess[str]:
        places = [place for place in PLACES if Path(place).is_dir()]
        mounts = "".join(f"mount -t tmpfs -o {options} none {place}\n" for place in places)
        prepared = f"mount -t tmpfs none /mnt; cp '{demo}' /mnt/demo; mount -o remount,ro /mnt\n{mounts}"
        text = f"{prepared}export PLACES='{' '.join(places)}'; cd /mnt\n{script}"
        env = {"PATH": os.environ["PATH"], "HOME": "/dev/null/home"}
        return subprocess.run([*words, "bash", "-c", text], env=env, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture(scope="module")
def answer(demo: Path) -> str:
    """What the demo says on this machine as it is."""
    return subprocess.run(f"'{demo}' {ASK}", shell=True, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("options", ["noexec", "size=64m", "size=2m"])
def test_answers_all_the_same(hardened: Run, answer: str, options: str) -> None:
    done = hardened(options, f"./demo {ASK}; code=$?; {LEFT} >&2; exit $code")
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")


def test_one_small_place_is_enough(hardened: Run, answer: str) -> None:
    place = "mount -t tmpfs -o size=64m none /srv"
    done = hardened("ro", f"{place}; TMPDIR=/srv ./demo {ASK}; find /srv -mindepth 1")
    assert (done.stdout, done.stderr) == (answer, "")


def test_nowhere_at_all(hardened: Run) -> None:
    done = hardened("ro", f"exec ./demo {ASK}")
    assert done.returncode == 71 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "MKLLM_RUNTIME_DIR" in done.stderr
