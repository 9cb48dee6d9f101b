"""The way to the engine's server: its address, and connections to it."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.channel import (
        TAKEN,
        arguments,
        connect,
        connector,
        is_connected,
        new_address,
        reader,
        url,
    )
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.channel import arguments, is_connected, new_address
    from mkllm.runtime.platform.posix.channel import (
        TAKEN,
        connect,
        connector,
        reader,
        url,
    )
else:
    from mkllm.runtime.platform.posix.channel import (
        TAKEN,
        arguments,
        connect,
        connector,
        is_connected,
        new_address,
        reader,
        url,
    )

__all__ = [
    "TAKEN",
    "arguments",
    "connect",
    "connector",
    "is_connected",
    "new_address",
    "reader",
    "url",
]
