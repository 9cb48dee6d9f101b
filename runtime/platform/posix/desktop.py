"""The desktop on POSIX systems; waits for nothing and complains about nothing."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence

assert sys.platform != "win32"

from mkllm.runtime.engine.environment import cleaned

OPENERS = ("xdg-open", "gio", "wslview")


def open_page(url: str) -> bool:
    """Start the desktop's browser on `url`; False where there is no desktop or no way to tell it to."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    opener = next((found for name in OPENERS if (found := shutil.which(name))), None)
    if opener is None:
        return False
    return begin([opener, "open", url] if opener.endswith("/gio") else [opener, url])


def begin(words: Sequence[str]) -> bool:
    """Start a program of the desktop's, which may outlive this one; False where that cannot be done."""
    try:
        started = subprocess.Popen(
            words,
            env=cleaned(os.environ, getattr(sys, "_MEIPASS", None)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    threading.Thread(target=started.wait, name="browser", daemon=True).start()
    return True
