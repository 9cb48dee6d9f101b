"""Tells systemd, where it started this program, that requests are served (sd_notify); knows no unit."""

import contextlib
import os
import socket
import sys

from mkllm.runtime.engine.supervisor import Snapshot

VARIABLE = "NOTIFY_SOCKET"


class Manager:
    """The service manager that waits for `READY=1`; none in most launches. The variable is not passed on."""

    def __init__(self) -> None:
        self._address = os.environ.pop(VARIABLE, "")
        self._told = ""

    def engine(self, snapshot: Snapshot) -> None:
        """The engine has changed: said once for every other state."""
        if snapshot.phase == "ready":
            self._tell(f"READY=1\nSTATUS=ready, {snapshot.kernel} ({snapshot.reason})")
        elif snapshot.phase == "loading":
            self._tell(f"STATUS={snapshot.last_failure or 'reading the model'}")

    def end(self) -> None:
        """This program is stopping."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def _tell(self, state: str) -> None:
        if sys.platform == "win32" or not self._address or state == self._told:
            return
        self._told = state
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address)
            manager.send(state.encode())
