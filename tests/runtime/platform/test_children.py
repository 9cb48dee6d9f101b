"""Programs that are started from here, and what is heard of them."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from mkllm.runtime.platform import children


def start(code, *descriptors, **streams):
    words = [sys.executable, "-c", code, *map(str, descriptors)]
    return children.start(words, descriptors, os.environ, stdout=subprocess.PIPE, **streams)


def test_what_is_heard():
    process = start("import sys, time; print('one', flush=True); time.sleep(0.2); print('two'); sys.exit(5)")
    heard = []
    with contextlib.closing(children.Hearing()) as hearing:
        hearing.add(process.stdout, heard.append)
        assert not hearing.hear(0) and hearing.open
        while hearing.open:
            assert hearing.hear(None)
    assert process.stdout.closed and process.wait() == 5
    assert b"".join(heard).split() == [b"one", b"two"]


def test_what_ended_programs_have_left():
    process = start("print('x' * 200_000)", stdin=subprocess.DEVNULL)
    heard = []
    with contextlib.closing(children.Hearing()) as hearing:
        hearing.add(process.stdout, heard.append)
        while process.poll() is None:
            hearing.hear(0.01)
        hearing.drain()
        assert not hearing.open
    assert len(b"".join(heard)) == 200_001


def test_only_what_is_named_is_inherited(tmp_path):
    (tmp_path / "file").write_text("inherited")
    with open(tmp_path / "file") as shared, open(tmp_path / "file") as other:
        code = (
            f"import os, sys; print(os.read(int(sys.argv[1]), 99))\ntry: os.fstat({other.fileno()})\n"
            "except OSError: print('not')"
        )
        assert children.number(shared.fileno()) == shared.fileno()
        with start(code, shared.fileno()) as process:
            assert process.stdout.read().split() == [b"b'inherited'", b"not"]


@pytest.mark.parametrize("number,name", [(signal.SIGSEGV, "SIGSEGV"), (40, "signal 40")])
def test_how_programs_end(number, name):
    assert children.crash(-number) == number and children.crash_name(number) == name
    assert children.crash(0) is children.crash(3) is children.crash(1, served=True) is None


def test_a_killed_one_ends_with_what_it_started():
    with start("import subprocess, sys; subprocess.run(['sleep', '600'])") as process:
        assert os.getpgid(process.pid) == process.pid
        children.kill(process)
        assert process.stdout.read() == b""  # nobody is left who could write to it
        assert process.wait() == -signal.SIGKILL
        children.kill(process)
