"""Programs that are started from here: what they inherit, what they say, and how they end."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.children import (
        FROM_OUTSIDE,
        ILLEGAL,
        KILLED,
        LONGEST_WAIT,
        SEPARATOR,
        UNREADABLE,
        Hearing,
        activity,
        ask_to_end,
        crash,
        crash_name,
        dump_no_memory,
        kill,
        number,
        start,
    )
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.children import activity, dump_no_memory
    from mkllm.runtime.platform.posix.children import (
        FROM_OUTSIDE,
        ILLEGAL,
        KILLED,
        LONGEST_WAIT,
        SEPARATOR,
        UNREADABLE,
        Hearing,
        ask_to_end,
        crash,
        crash_name,
        kill,
        number,
        start,
    )
else:
    from mkllm.runtime.platform.posix.children import (
        FROM_OUTSIDE,
        ILLEGAL,
        KILLED,
        LONGEST_WAIT,
        SEPARATOR,
        UNREADABLE,
        Hearing,
        activity,
        ask_to_end,
        crash,
        crash_name,
        dump_no_memory,
        kill,
        number,
        start,
    )

__all__ = [
    "FROM_OUTSIDE",
    "ILLEGAL",
    "KILLED",
    "LONGEST_WAIT",
    "SEPARATOR",
    "UNREADABLE",
    "Hearing",
    "activity",
    "ask_to_end",
    "crash",
    "crash_name",
    "dump_no_memory",
    "kill",
    "number",
    "start",
]
