"""The desktop of macOS."""

import os
import sys

assert sys.platform != "win32"

from mkllm.runtime.platform.posix.desktop import begin

OPENER = "/usr/bin/open"


def open_page(url: str) -> bool:
    """Start the desktop's browser on `url`; False where a person is not at this machine."""
    return not os.environ.get("SSH_CONNECTION") and begin([OPENER, url])
