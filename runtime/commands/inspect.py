"""`inspect`: what this file holds, as `mkllm inspect` says it; verifies nothing."""

import json
import os
from collections.abc import Iterable

from mkllm.runtime.amounts import size
from mkllm.runtime.artifact import description
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.recipe import recipe
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.streams import write_utf8

BETWEEN = "  "


def run(path: str, as_json: bool, as_recipe: bool) -> int:
    """Print the manifest, as a table or as one JSON object; or the recipe from which it is built again."""
    with open_artifact(path) as artifact:
        if as_recipe:
            write_utf8(recipe(artifact, os.path.basename(path)))
            return 0
        manifest, length = artifact.manifest, artifact.size
    if as_json:
        print(json.dumps(description.as_object(path, length, manifest), indent=2))
        return 0
    for line in _aligned(description.rows(path, length, manifest, size)):
        print(line)
    print()
    for line in _aligned([("member", "size", "SHA-256"), *description.members(manifest, size)]):
        print(line)
    return 0


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """Lines whose columns stand under each other."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield BETWEEN.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
