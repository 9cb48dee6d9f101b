"""`verify`: every byte of this file against what was built."""

import sys

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import Different
from mkllm.runtime.progress import Progress, size


def run(path: str) -> int:
    """Say that all is as built. Raises Different, naming all that is not."""
    with open_artifact(path) as artifact, Progress("verifying", artifact.size) as progress:
        differences = verify(artifact, progress.add)
        total, count = artifact.size, len(artifact.manifest.members)
    if not differences:
        print(f"{path}: all {size(total)} in {count} members are as built")
        return 0
    for difference in differences[1:]:
        print(difference, file=sys.stderr)
    more = f", and {len(differences) - 1} more (above)" if len(differences) > 1 else ""
    raise Different(f"{path!r} is not as built ({differences[0]}{more}): copy the file again")
