"""`verify`: every byte of this file against what was built."""

import sys

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.artifact.verify import size_of, verify
from mkllm.runtime.errors import Different
from mkllm.runtime.progress import Progress


def run(path: str) -> int:
    """Say that all is as built. Raises Different, naming all that is not."""
    with open_artifact(path) as artifact, Progress("verifying", size_of(artifact)) as progress:
        differences = verify(artifact, progress.add)
        total, count = size_of(artifact), len(artifact.manifest.members)
        beside = ", ".join(fact.file for fact in artifact.manifest.beside)
    if not differences:
        more = f" and in {shown(beside)}" if beside else ""
        print(f"{path}: all {size(total)} in {count} members{more} are as built")
        return 0
    for difference in differences[1:]:
        print(difference, file=sys.stderr)
    more = f", and {len(differences) - 1} more (above)" if len(differences) > 1 else ""
    raise Different(f"{path!r} is not as built ({differences[0]}{more}): copy the file again")
