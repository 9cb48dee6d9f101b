"""`licenses`: the licences of everything that this file is made of."""

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.streams import write_utf8

FOLDER = "licenses/"


def run(path: str) -> int:
    """Print every licence text, each under the name of its component."""
    with open_artifact(path) as artifact:
        name, license = artifact.manifest.name, artifact.manifest.model.license
        write_utf8(f"# the model {shown(name)}\n{shown(license or 'the model names no licence')}\n")
        for member in artifact.manifest.members:
            if member.name.startswith(FOLDER):
                title = member.name.removeprefix(FOLDER).removesuffix(".txt")
                write_utf8(f"\n# {title}\n{artifact.read(member.name).decode('utf-8', 'replace')}")
    return 0
