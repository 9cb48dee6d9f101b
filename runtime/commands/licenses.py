"""`licenses`: the licences of everything that this file is made of."""

import sys

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.shown import shown

FOLDER = "licenses/"


def run(path: str) -> int:
    """Print every licence text, each under the name of its component."""
    with open_artifact(path) as artifact:
        model = artifact.manifest.model
        _print(f"# the model {shown(artifact.manifest.name)}\n{shown(model.license or 'the model names no licence')}\n")
        for member in artifact.manifest.members:
            if member.name.startswith(FOLDER):
                title = member.name.removeprefix(FOLDER).removesuffix(".txt")
                _print(f"\n# {title}\n{artifact.read(member.name).decode('utf-8', 'replace')}")
    return 0


def _print(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
