"""`extract`: a member of this file, bit for bit, as a file of its own."""

from pathlib import Path

from mkllm.runtime.artifact.extract import extract
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.progress import Progress, size


def run(path: str, member: str, output: str | None, force: bool) -> int:
    """Write `member` to `output` and say where it is."""
    with open_artifact(path) as artifact:
        total = artifact.member(member).size
        with Progress(f"extracting {member}", total) as progress:
            written = extract(artifact, member, Path(output) if output else None, progress.add, force=force)
    print(f"{written}: {size(total)}, checked by SHA-256")
    return 0
