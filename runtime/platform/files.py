"""Files as the system has them: read and written at any place, locked, made beside their targets."""

import sys

if sys.platform == "win32":
    from mkllm.runtime.platform.windows.files import (
        create,
        finish,
        is_running,
        lock,
        lock_shared,
        locked_folder,
        name_of_open,
        native,
        open_for_reading,
        read_into,
        rename_new,
        rename_unused,
        share,
        sync,
        sync_folder,
        temporary,
        write_from,
    )
elif sys.platform == "darwin":
    from mkllm.runtime.platform.macos.files import is_running, name_of_open, share, temporary
    from mkllm.runtime.platform.posix.files import (
        create,
        finish,
        lock,
        lock_shared,
        locked_folder,
        native,
        open_for_reading,
        read_into,
        rename_new,
        rename_unused,
        sync,
        sync_folder,
        write_from,
    )
else:
    from mkllm.runtime.platform.posix.files import (
        create,
        finish,
        is_running,
        lock,
        lock_shared,
        locked_folder,
        name_of_open,
        native,
        open_for_reading,
        read_into,
        rename_new,
        rename_unused,
        share,
        sync,
        sync_folder,
        temporary,
        write_from,
    )

__all__ = [
    "create",
    "finish",
    "is_running",
    "lock",
    "lock_shared",
    "locked_folder",
    "name_of_open",
    "native",
    "open_for_reading",
    "read_into",
    "rename_new",
    "rename_unused",
    "share",
    "sync",
    "sync_folder",
    "temporary",
    "write_from",
]
