"""Names for the open files of a model in several: llama.cpp opens them by names that it makes of the first one's."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from mkllm.runtime.artifact.reader import Stretch
from mkllm.runtime.errors import PermissionFailure


def first_of(parts: Sequence[Stretch], home: Path) -> str:
    """The first one's: of a link to its descriptor, which the engine inherits, so that it opens what was looked at.

    On Windows, where nothing takes the name of a file that is open like these, its own. Links are the same for all
    launches that have the same descriptors, and stay. Raises PermissionFailure.
    """
    if sys.platform == "win32":
        return parts[0].path
    folder = home / "parts" / "-".join(str(part.descriptor) for part in parts)
    links = [folder / f"model-{number:05}-of-{len(parts):05}.gguf" for number in range(1, len(parts) + 1)]
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for link, part in zip(links, parts, strict=True):
            with contextlib.suppress(FileExistsError):
                link.symlink_to(f"/proc/self/fd/{part.descriptor}")
    except OSError as error:
        raise PermissionFailure(
            f"no names for the weights can be made in {str(folder)!r} ({error.strerror}): set MKLLM_RUNTIME_DIR to "
            "another folder"
        ) from None
    return str(links[0])
