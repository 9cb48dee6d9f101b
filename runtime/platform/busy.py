"""How much of the processors other programs have used."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.busy import used_by_others
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.busy import used_by_others
else:
    from mkllm.runtime.platform.posix.busy import used_by_others

__all__ = ["used_by_others"]
