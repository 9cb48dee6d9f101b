"""This process on POSIX systems."""

import os
import signal
import sys
from collections.abc import Callable

assert sys.platform != "win32"


def own_program() -> str:
    """The frozen program's file, which its entry has open. One that was replaced meanwhile is still reached, through
    /proc."""
    number = os.environ.get("MKLLM_FILE_FD", "")
    try:
        same = os.path.samestat(os.stat(sys.executable), os.fstat(int(number)))
    except (OSError, ValueError):
        same = False
    return sys.executable if same else f"/proc/self/fd/{number}"


def guardian() -> Callable[[], None] | None:
    """What returns when the process is gone that watches over this one; None where there is none."""
    number = os.environ.get("MKLLM_GUARDIAN_FD", "")
    if not number.isdigit():
        return None
    pipe = int(number)
    os.set_inheritable(pipe, False)

    def wait() -> None:
        while os.read(pipe, 64):
            pass

    return wait


def end_self() -> None:
    """As if somebody had asked this process to end."""
    os.kill(os.getpid(), signal.SIGTERM)


def release() -> str:
    """Of the system's kernel."""
    return os.uname().release
