"""The terminal, or the window, that a person sees, and how the person ends the program."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.terminal import (
        ENDING,
        READER_GONE,
        UNDECODABLE,
        ending,
        escapes,
        has_input,
        hold_open,
        prepare,
        read_all,
    )
else:
    from mkllm.runtime.platform.posix.terminal import (
        ENDING,
        READER_GONE,
        UNDECODABLE,
        ending,
        escapes,
        has_input,
        hold_open,
        prepare,
        read_all,
    )

__all__ = [
    "ENDING",
    "READER_GONE",
    "UNDECODABLE",
    "ending",
    "escapes",
    "has_input",
    "hold_open",
    "prepare",
    "read_all",
]
