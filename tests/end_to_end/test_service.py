"""The artifact as a service, of a real systemd: process 1 of a container of Debian 12, made by systemd-nspawn."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from mkllm.builder import cache
from mkllm.builder.process import run

NAME = "debian-12-systemd"
STRANGE = "My Files/de mo$1%;ü"
BOOT_SECONDS = 60
BIND_SERVICE = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE alone
Inside = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make containers"),
    pytest.mark.skipif(
        not (shutil.which("systemd-nspawn") and shutil.which("debootstrap")),
        reason="systemd-container and debootstrap are not installed",
    ),
]


def make(root: Path) -> None:
    lines = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]).splitlines()
    archives = sorted({uri for label, _, uri in (line.partition(" ") for line in lines) if label == "Debian"})
    if not archives:
        pytest.skip("apt knows no archive of Debian: `apt-get update` was not run, or this is another system")
    packages = "--include=systemd,systemd-sysv,dbus,libpam-systemd"
    run(["debootstrap", "--variant=minbase", packages, "bookworm", root, archives[0]])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> Path:
    """The folder of a whole system of its own, with the demo in /opt and, under a strange name, in a home."""
    base = cache.folder("roots")
    with cache.locked(base / f"{NAME}.lock"):
        if not (base / NAME).exists():
            with cache.draft(base, NAME) as draft:
                make(draft / "root")
                os.rename(draft / "root", base / NAME)
    root = tmp_path_factory.mktemp("system") / "root"
    run(["cp", "--archive", "--reflink=auto", base / NAME, root])
    for place in (root / "opt" / "demo", root / "home" / "user" / STRANGE):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo, place)
    return root


@pytest.fixture(scope="module")
def leader(system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Process 1 of the container, by its number outside."""
    log = tmp_path_factory.mktemp("boot") / "log"
    words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--boot"]
    words.append(f"--directory={system}")
    with (
        log.open("wb") as file,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as nspawn,
    ):
        try:
            yield booted(psutil.Process(nspawn.pid), log)
        finally:
            nspawn.terminate()
            try:
                nspawn.wait(30)
            except subprocess.TimeoutExpired:
                nspawn.kill()


def booted(nspawn: psutil.Process, log: Path) -> int:
    end = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < end:
        found = [child.pid for child in nspawn.children() if child.name() == "systemd"]
        if found and enter(found[0], "/bin/systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
            return found[0]
        if not nspawn.is_running() or nspawn.status() == psutil.STATUS_ZOMBIE:
            pytest.skip(f"no container can be booted here: {log.read_text('utf-8', 'replace')[-300:]!r}")
        time.sleep(0.5)
    pytest.skip(f"a container does not boot here within {BOOT_SECONDS} s: {log.read_text('utf-8', 'replace')[-300:]!r}")


def enter(leader: int, *words: str, env: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = ["nsenter", "--target", str(leader), "--all", "--", "/usr/bin/env", "-i", "PATH=/bin:/sbin", *env, *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


@pytest.fixture
def inside(leader: int) -> Iterator[Inside]:
    """`inside(*words)`: run in the container; the service is removed afterwards."""
    yield lambda *words, env=(): enter(leader, *words, env=env)
    enter(leader, "/opt/demo", "service", "remove")


def answer(leader: int, url: str, *words: str) -> tuple[int, str]:
    """What a client in the container's network gets; there is no curl in the container."""
    command = ["nsenter", f"--target={leader}", "--net", "--", "curl", "--silent", "--write-out", "\n%{http_code}"]
    output = subprocess.run([*command, *words, url], capture_output=True, text=True, timeout=60).stdout
    body, _, status = output.rpartition("\n")
    return int(status), body


def shown(inside: Inside, name: str) -> str:
    return inside("/bin/systemctl", "show", "demo", "--property", name, "--value").stdout.strip()


def test_installed_it_serves_as_nobody_in_a_sandbox(inside: Inside, leader: int, system: Path) -> None:
    done = inside("/opt/demo", "service", "install", "--", "--host", "0.0.0.0", "--port", "80", "--api-key", "secret")
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(inside, "StatusText").startswith("ready, cpu-")
    assert answer(leader, "http://127.0.0.1/v1/models")[0] == 401
    question = json.dumps({"messages": [{"role": "user", "content": "What is mkllm?"}], "temperature": 0})
    status, body = answer(
        leader, "http://127.0.0.1/v1/chat/completions", "-H", "Authorization: Bearer secret", "-d", question
    )
    assert status == 200 and "one executable file" in json.loads(body)["choices"][0]["message"]["content"]
    facts = inside("/bin/cat", f"/proc/{shown(inside, 'MainPID')}/status").stdout
    lines = dict(line.split(":", 1) for line in facts.splitlines())
    assert int(lines["Uid"].split()[0]) > 60000 and lines["CapEff"].strip() == lines["CapBnd"].strip() == BIND_SERVICE
    assert lines["NoNewPrivs"].strip() == "1" and lines["Seccomp"].strip() == "2"
    unit = system / "etc/systemd/system/demo.service"
    assert "secret" not in unit.read_text() and (system / "etc/mkllm/demo.keys").stat().st_mode & 0o777 == 0o600
    assert inside("/usr/bin/systemd-analyze", "verify", "/etc/systemd/system/demo.service").stderr == ""
    assert len(list((system / "var/cache/private/demo").glob("_MEI*"))) == 1


def test_killed_it_comes_back(inside: Inside) -> None:
    assert inside("/opt/demo", "service", "install").returncode == 0
    first = shown(inside, "MainPID")
    inside("/bin/sh", "-c", f"kill -9 {first}")
    end = time.monotonic() + 60
    while time.monotonic() < end and (shown(inside, "ActiveState"), shown(inside, "NRestarts")) != ("active", "1"):
        time.sleep(0.5)
    status = inside("/opt/demo", "service", "status")
    assert status.returncode == 0 and "started again 1 times" in status.stdout
    assert shown(inside, "MainPID") != first
    inside("/bin/systemctl", "stop", "demo")
    assert inside("/opt/demo", "service", "status").returncode == 3
    assert shown(inside, "Result") == "success"


def test_names_and_words_of_all_kinds(inside: Inside, leader: int) -> None:
    """From a home, which the service does not see, by a name and with words that systemd would understand otherwise."""
    program, alias = f"/home/user/{STRANGE}", "a \"b\" 'c' $HOME ${HOME} %n \\x ü;"
    done = inside(program, "service", "install", "--", "--alias", alias)
    assert (done.returncode, done.stderr) == (0, "")
    status, body = answer(leader, "http://127.0.0.1:8080/v1/models")
    assert status == 200 and json.loads(body)["data"][0]["id"] == alias


def test_removed_nothing_is_left(inside: Inside, system: Path) -> None:
    assert inside("/opt/demo", "service", "install", "--", "--api-key", "secret").returncode == 0
    again = inside("/opt/demo", "service", "install")
    assert again.returncode == 12 and "is there already" in again.stderr
    assert inside("/opt/demo", "service", "remove").returncode == 0
    assert list((system / "var/cache/private").iterdir()) == list((system / "etc/mkllm").iterdir()) == []
    assert not list((system / "etc/systemd/system").rglob("demo.service"))
    assert shown(inside, "LoadState") == "not-found"
    gone = inside("/opt/demo", "service", "remove")
    assert gone.returncode == 47 and "there is no service 'demo'" in gone.stderr


def test_an_engine_that_does_not_start_is_told(inside: Inside) -> None:
    done = inside("/opt/demo", "service", "install", "--", "--", "--temp", "hot")
    assert done.returncode == 48
    assert "is installed, but did not become ready: `journalctl -u demo -n 20` says why" in done.stderr


def test_a_user_s_own(inside: Inside, leader: int) -> None:
    inside("/sbin/useradd", "--create-home", "ann")
    inside("/bin/loginctl", "enable-linger", "ann")
    number = inside("/bin/id", "-u", "ann").stdout.strip()
    env = (f"XDG_RUNTIME_DIR=/run/user/{number}", "HOME=/home/ann")

    def ann(*words: str) -> subprocess.CompletedProcess[str]:
        return inside("/sbin/runuser", "-u", "ann", "--", "/opt/demo", "service", *words, env=env)

    end = time.monotonic() + 30
    while inside("/bin/test", "-S", f"/run/user/{number}/bus").returncode and time.monotonic() < end:
        time.sleep(0.2)
    done = ann("install", "--user", "--", "--port", "8099", "--api-key", "secret")
    assert done.returncode == 0 and "loginctl enable-linger" in done.stderr
    assert answer(leader, "http://127.0.0.1:8099/v1/models", "-H", "Authorization: Bearer secret")[0] == 200
    assert ann("status", "--user").returncode == 0
    assert ann("remove", "--user").returncode == 0 and ann("status", "--user").returncode == 47
    assert ann("install").returncode == 13
