"""Names for the open files of a model in several: llama.cpp opens them by names that it makes of the first one's."""

from collections.abc import Sequence
from pathlib import Path

from mkllm.runtime.artifact.reader import Stretch
from mkllm.runtime.errors import PermissionFailure
from mkllm.runtime.platform import files


def first_of(parts: Sequence[Stretch], home: Path) -> str:
    """The first one's, so that the engine, which inherits their descriptors, opens what was looked at.

    Links that are made for it are the same for all launches that have the same descriptors, and stay. Raises
    PermissionFailure.
    """
    folder = home / "parts" / "-".join(str(part.descriptor) for part in parts)
    try:
        names = [
            files.name_of_open(part.descriptor, part.path, folder / f"model-{number:05}-of-{len(parts):05}.gguf")
            for number, part in enumerate(parts, 1)
        ]
    except OSError as error:
        raise PermissionFailure(
            f"no names for the weights can be made in {str(folder)!r} ({error.strerror}): set MKLLM_RUNTIME_DIR to "
            "another folder"
        ) from None
    return names[0]
