"""The desktop on Windows; waits for nothing and complains about nothing."""

import contextlib
import ctypes
import os
import sys
import threading

assert sys.platform == "win32"

FLAGS, VISIBLE = 1, 1  # UOI_FLAGS, WSF_VISIBLE
REMOTE = "SSH_CONNECTION"


def open_page(url: str) -> bool:
    """Have Windows open `url` in the browser; False for a service, and for who is connected from elsewhere."""
    if REMOTE in os.environ or not _has_desktop():
        return False
    threading.Thread(target=_open, args=(url,), name="browser", daemon=True).start()
    return True


def _open(url: str) -> None:
    with contextlib.suppress(OSError):
        os.startfile(url)


def _has_desktop() -> bool:
    """Whether what this process shows can be seen."""
    user32 = ctypes.WinDLL("user32")
    user32.GetProcessWindowStation.restype = ctypes.c_void_p
    flags = (ctypes.c_ulong * 3)()
    station = ctypes.c_void_p(user32.GetProcessWindowStation())
    found = user32.GetUserObjectInformationW(station, FLAGS, flags, ctypes.sizeof(flags), None)
    return bool(found and flags[2] & VISIBLE)
