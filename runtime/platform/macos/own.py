"""This process on macOS. A frozen program is two: the launcher, which unpacks it and waits, and its child."""

import os
import sys
import time
from collections.abc import Callable

assert sys.platform != "win32"

LOOK_SECONDS = 1.0


def own_program() -> str:
    """The frozen program's file."""
    return sys.executable


def guardian() -> Callable[[], None] | None:
    """What returns when the launcher is gone; None where there is none."""
    if not getattr(sys, "frozen", False):
        return None
    launcher = os.getppid()

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK_SECONDS)

    return wait
