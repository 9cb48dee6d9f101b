"""`service install`, `remove` and `status`, with a systemctl that is played; the real one is in end_to_end."""

import json
import os
import stat
from pathlib import Path

import pytest

from mkllm.runtime import cli
from mkllm.runtime.service import install, systemd
from mkllm.runtime.service.unit import MARK

SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$PLAYED/calls"
case "$*" in
*show*) cat "$PLAYED/shown" ;;
*$(cat "$PLAYED/refused")*) echo "it is refused" >&2; exit 1 ;;
esac
"""
MISSING = "LoadState=not-found\nActiveState=inactive\n"
RUNNING = """LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
StatusText=ready, cpu-haswell (AVX2)
ActiveEnterTimestamp=Sun 2026-11-22 11:47:44 UTC
MainPID=69
MemoryCurrent=42000000
NRestarts=2
"""


@pytest.fixture
def machine(build_fake, tmp_path, monkeypatch):
    """A machine with systemd, its folders and an artifact in /srv, all in one folder; this user is root on it."""
    for name in ("bin", "booted", "units"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    (tmp_path / "shown").write_text(MISSING)
    (tmp_path / "refused").write_text("nothing at all")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAYED", str(tmp_path))
    monkeypatch.setenv("MKLLM_ARTIFACT", str(build_fake(tmp_path / "artifact")))
    monkeypatch.delenv("MKLLM_API_KEY", raising=False)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "booted")
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setattr(systemd, "SYSTEM_KEYS", tmp_path / "keys")
    monkeypatch.setattr(install, "TEMPORARY", ("/nowhere/",))
    monkeypatch.setattr(install, "HIDDEN", (f"{tmp_path}/",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def calls(machine):
    file = machine / "calls"
    return [line for line in file.read_text().splitlines() if "show" not in line] if file.exists() else []


def refused(capfd, code, *texts):
    """One sentence, and nothing on standard output."""
    output = capfd.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert all(text in output.err for text in texts), output.err
    return code


def test_installed_and_removed(machine, capfd):
    assert cli.main(["service", "install", "--", "--host", "0.0.0.0", "--api-key", "secret"]) == 0
    unit, keys = machine / "units" / "fake.service", machine / "keys" / "fake.keys"
    assert calls(machine) == ["daemon-reload", "enable fake.service", "restart fake.service"]
    written = unit.read_text()
    assert written.startswith(MARK) and "secret" not in written and "--host 0.0.0.0" in written
    assert keys.read_text() == "secret\n" and stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.parent.stat().st_mode) == 0o700 and stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert "starts now and at every boot" in capfd.readouterr().out
    assert cli.main(["service", "remove"]) == 0
    assert not unit.exists() and not keys.exists()
    assert calls(machine)[3:] == [
        "stop fake.service",
        "disable fake.service",
        "clean --what=all fake.service",
        "daemon-reload",
        "reset-failed fake.service",
    ]


def test_not_now(machine):
    assert cli.main(["service", "install", "--no-now", "--name", "other"]) == 0
    assert calls(machine) == ["daemon-reload", "enable other.service"]
    assert (machine / "units" / "other.service").exists() and not (machine / "keys").exists()


def test_printing_needs_nothing(machine, monkeypatch, capfd):
    (machine / "booted").rmdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["service", "install", "--print", "--", "--api-key", "secret"]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith(MARK) and "secret" not in printed and calls(machine) == []
    assert list((machine / "units").iterdir()) == [] and not (machine / "keys").exists()


def test_a_file_of_keys_stays_where_it_is(machine):
    (machine / "mine").write_text("secret\n")
    assert cli.main(["service", "install", "--", "--api-key-file", str(machine / "mine")]) == 0
    assert f"LoadCredential=api-keys:{machine / 'mine'}\n" in (machine / "units" / "fake.service").read_text()
    assert not (machine / "keys").exists()


def test_keys_of_the_environment_are_kept_too(machine, monkeypatch):
    monkeypatch.setenv("MKLLM_API_KEY", "secret")
    assert cli.main(["service", "install"]) == 0
    assert (machine / "keys" / "fake.keys").read_text() == "secret\n"


def test_one_that_is_there_stays(machine, capfd):
    assert cli.main(["service", "install"]) == 0
    capfd.readouterr()
    assert cli.main(["service", "install"]) == 12
    refused(capfd, 12, "the service 'fake' is there already", "--force")
    assert cli.main(["service", "install", "--force", "--", "--port", "81"]) == 0
    assert "--port 81" in (machine / "units" / "fake.service").read_text()


@pytest.mark.parametrize("in_place", [True, False])
def test_services_of_others_stay(machine, capfd, in_place):
    if in_place:
        (machine / "units" / "fake.service").write_text("[Unit]\n")
    else:
        (machine / "shown").write_text("LoadState=loaded\n")
    assert cli.main(["service", "install", "--force"]) == 12
    refused(capfd, 12, "this system has a service 'fake' of its own: choose another name with --name")
    assert cli.main(["service", "remove"]) == 47
    refused(capfd, 47, "by hand" if in_place else "there is no service 'fake'")


def test_without_systemd(machine, capfd):
    (machine / "booted").rmdir()
    for words in (["install"], ["remove"], ["status"]):
        assert cli.main(["service", *words]) == 46
        refused(capfd, 46, "this system does not run systemd", "--print")


def test_without_systemctl(machine, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(machine))
    assert cli.main(["service", "status"]) == 46
    refused(capfd, 46, "systemctl cannot be run (No such file or directory)")


def test_not_as_root(machine, monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["service", "install"]) == 13
    refused(capfd, 13, "use `sudo`, or --user")
    assert cli.main(["service", "remove"]) == 13
    refused(capfd, 13, "use `sudo`, or --user")


def test_a_user_s_own(machine, monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(machine / "config"))
    assert cli.main(["service", "install", "--user", "--", "--api-key", "secret"]) == 0
    assert calls(machine) == [
        f"--user {words}" for words in ("daemon-reload", "enable fake.service", "restart fake.service")
    ]
    assert (machine / "config" / "systemd" / "user" / "fake.service").exists()
    assert (machine / "config" / "mkllm" / "fake.keys").read_text() == "secret\n"
    assert "loginctl enable-linger" in capfd.readouterr().err


def test_what_systemd_refuses_is_undone(machine, capfd):
    (machine / "refused").write_text("enable")
    assert cli.main(["service", "install", "--", "--api-key", "secret"]) == 48
    refused(capfd, 48, "systemctl enable fake.service failed: it is refused")
    assert list((machine / "units").iterdir()) == list((machine / "keys").iterdir()) == []


def test_one_that_does_not_become_ready_stays_to_be_looked_at(machine, capfd):
    (machine / "refused").write_text("restart")
    assert cli.main(["service", "install"]) == 48
    refused(capfd, 48, "is installed, but did not become ready: `journalctl -u fake -n 20` says why")
    assert (machine / "units" / "fake.service").exists()


@pytest.mark.parametrize("step", ["daemon-reload", "enable", "restart", "a full disk"])
def test_one_that_cannot_be_replaced_is_as_it_was(machine, monkeypatch, capfd, step):
    assert cli.main(["service", "install", "--", "--api-key", "old"]) == 0
    capfd.readouterr()
    unit, keys = machine / "units" / "fake.service", machine / "keys" / "fake.keys"
    before = unit.read_text()
    if step == "a full disk":
        rename = os.replace
        full = OSError(28, "No space left on device", str(unit))
        monkeypatch.setattr(os, "replace", lambda old, new: rename(old, new) if new != unit else throw(full))
    else:
        (machine / "refused").write_text(step)
    (machine / "calls").unlink()
    assert cli.main(["service", "install", "--force", "--", "--api-key", "new", "--port", "81"]) == 48
    refused(capfd, 48, {"restart": "the one before is back", "a full disk": "No space left"}.get(step, "it is refused"))
    assert (unit.read_text(), keys.read_text()) == (before, "old\n")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600 and len(list(unit.parent.iterdir())) == 1
    told = ["daemon-reload", "enable fake.service", "restart fake.service", "daemon-reload", "restart fake.service"]
    assert calls(machine) == {
        "restart": told, "enable": [*told[:2], told[0]], "daemon-reload": [told[0]] * 2, "a full disk": [told[0]]
    }[step]  # fmt: skip


def throw(error):
    raise error


@pytest.mark.parametrize("letter", ["\n", "\r", "\x7f"])
def test_a_file_of_keys_cannot_add_lines_to_the_unit(machine, capfd, letter):
    file = machine / f"keys{letter}ExecStartPre=x"
    file.write_text("secret\n")
    assert cli.main(["service", "install", "--print", "--", "--api-key-file", str(file)]) == 2
    refused(capfd, 2, "has control characters: rename it", repr(str(file)))


def test_weights_are_found_where_they_were_found(build_fake, machine, monkeypatch):
    program = build_fake(machine / "other", beside=True)
    monkeypatch.setenv("MKLLM_ARTIFACT", str(program))
    unit = machine / "units" / "fake.service"
    assert cli.main(["service", "install"]) == 0
    assert "MKLLM_WEIGHTS" not in unit.read_text()
    (machine / "the 100%").mkdir()
    moved = (machine / "other.weights").rename(machine / "the 100%" / "other.weights")
    monkeypatch.setenv("MKLLM_WEIGHTS", os.path.relpath(moved.parent))
    assert cli.main(["service", "install", "--force"]) == 0
    named = str(moved).replace("%", "%%")
    assert f'Environment="MKLLM_WEIGHTS={named}"\n' in unit.read_text()


def test_a_folder_that_cannot_be_written(machine, monkeypatch, capfd):
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", machine / "artifact" / "units")
    assert cli.main(["service", "install"]) == 48
    refused(capfd, 48, "cannot be written (Not a directory)")


def test_files_that_others_cannot_run(machine, monkeypatch, capfd):
    Path(os.environ["MKLLM_ARTIFACT"]).chmod(0o700)
    assert cli.main(["service", "install"]) == 13
    refused(capfd, 13, "may not be read and run by other users", "chmod a+rx")


def test_files_that_others_cannot_reach(machine, monkeypatch, capfd):
    monkeypatch.setattr(install, "HIDDEN", ("/nowhere/",))
    machine.chmod(0o700)
    assert cli.main(["service", "install"]) == 13
    refused(capfd, 13, "cannot be reached by other users")


@pytest.mark.parametrize("letter", ['"', "'", "\\"])
def test_names_that_systemd_does_not_run(build_fake, machine, monkeypatch, capfd, letter):
    monkeypatch.setenv("MKLLM_ARTIFACT", str(build_fake(machine / f"arti{letter}fact")))
    assert cli.main(["service", "install"]) == 13
    refused(capfd, 13, "systemd runs no such program: rename it")


def test_files_that_are_gone_after_a_boot(machine, monkeypatch, capfd):
    monkeypatch.setattr(install, "TEMPORARY", (f"{machine}/",))
    assert cli.main(["service", "install"]) == 13
    refused(capfd, 13, "is gone after the next boot: move it")


@pytest.mark.parametrize("name", ["a b", "..", "ü", "-", "x" * 201])
def test_names_that_are_none(machine, capfd, name):
    assert cli.main(["service", "install", f"--name={name}"]) == 2
    refused(capfd, 2, f"{name!r} is no name for a service")


def test_status(machine, capfd):
    assert cli.main(["service", "status"]) == 47
    refused(capfd, 47, "there is no service 'fake'")
    (machine / "shown").write_text(RUNNING)
    assert cli.main(["service", "status"]) == 0
    assert capfd.readouterr().out == (
        "fake: active (running) since Sun 2026-11-22 11:47:44 UTC, enabled\n"
        "  says      ready, cpu-haswell (AVX2)\n"
        "  process   69, started again 2 times\n"
        "  memory    42 MB\n"
    )
    (machine / "shown").write_text(RUNNING.replace("active", "failed"))
    assert cli.main(["service", "status", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["ActiveState"] == "failed"
