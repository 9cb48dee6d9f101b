"""This process and its program."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.own import (
        end_self,
        guardian,
        own_program,
        release,
    )
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.own import guardian, own_program
    from mkllm.runtime.platform.posix.own import end_self, release
else:
    from mkllm.runtime.platform.posix.own import (
        end_self,
        guardian,
        own_program,
        release,
    )

__all__ = [
    "end_self",
    "guardian",
    "own_program",
    "release",
]
