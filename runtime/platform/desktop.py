"""The desktop, and its browser."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.desktop import open_page
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.desktop import open_page
else:
    from mkllm.runtime.platform.posix.desktop import open_page

__all__ = ["open_page"]
