"""Opens the user's browser where there is a desktop; never waits for it, never fails."""

import os
import subprocess
import threading
from collections.abc import Mapping
from shutil import which

from mkllm.runtime.engine.environment import cleaned

OPENERS = ("xdg-open", "gio", "sensible-browser")
ARGUMENTS = {"gio": ["open"]}


def find_opener(environment: Mapping[str, str]) -> list[str] | None:
    """The command that opens an address here; None where there is no desktop, or it is another machine's (ssh)."""
    if not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")) or "SSH_CONNECTION" in environment:
        return None
    for name in OPENERS:
        if path := which(name, path=environment.get("PATH")):
            return [path, *ARGUMENTS.get(name, [])]
    return None


def open_browser(address: str, frozen_home: str | None) -> bool:
    """Start the browser at `address`; whether there was one to start."""
    opener = find_opener(os.environ)
    if opener is None:
        return False
    try:
        process = subprocess.Popen(
            [*opener, address],
            env=cleaned(os.environ, frozen_home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    threading.Thread(target=process.wait, name="browser", daemon=True).start()
    return True
