"""Ports that are listened on."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.ports import EXCLUSIVE, TAKEN
else:
    from mkllm.runtime.platform.posix.ports import EXCLUSIVE, TAKEN

__all__ = ["EXCLUSIVE", "TAKEN"]
