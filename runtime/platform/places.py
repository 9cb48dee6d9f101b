"""Where a frozen program places the engine, if its entry has not said so."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.places import native_home
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.places import native_home
else:
    from mkllm.runtime.platform.posix.places import native_home

__all__ = ["native_home"]
