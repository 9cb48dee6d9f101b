"""`extract`: a member of this file, bit for bit, as a file of its own."""

from collections.abc import Iterator
from pathlib import Path

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact.extract import extract, extracted, is_restored
from mkllm.runtime.artifact.reader import Artifact, open_artifact
from mkllm.runtime.progress import Progress


def run(path: str, member: str, output: str | None, force: bool) -> int:
    """Write `member` to `output` and say where it is."""
    with open_artifact(path) as artifact:
        again = is_restored(artifact, member)
        total = extracted(artifact, member).size
        with Progress(f"extracting {member}", total) as progress:
            out = Path(output) if output else None
            written = extract(artifact, member, out, progress.add, force=force, restore=lambda: _restored(artifact))
    print(f"{written}: {size(total)}, checked by SHA-256" + (", as it was before it was prepacked" if again else ""))
    return 0


def _restored(artifact: Artifact) -> Iterator[bytes]:
    """Only this takes the engine, and a place for it."""
    from mkllm.runtime.engine.modules import Modules
    from mkllm.runtime.engine.restore import restored
    from mkllm.runtime.session import a_home, weights_of

    with a_home(artifact) as home:
        placed = Modules(artifact, home).place_backends()
        yield from restored(placed, weights_of(artifact, home), home.frozen)
