"""The recipe of an artifact: what a stranger's manifest says becomes neither an option of its own nor a line."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.recipe import recipe


def told(path: Path, **changes: Any) -> str:
    with open_artifact(path) as artifact:
        artifact.manifest = dataclasses.replace(artifact.manifest, **changes)
        return recipe(artifact, "out")


def test_only_known_options_are_taken_from_the_manifest(small_artifact: Path) -> None:
    options = {"quant": "Q4_K_M", "split": "never", "sign": "touch x", "force": True, "output": "/etc/x", "a\nb=1": "x"}
    text = told(small_artifact, options=options)
    table = tomllib.loads(text)
    assert (table["quant"], table["split"], table["output"]) == ("Q4_K_M", "never", "out")
    assert not {"sign", "force", "a\nb", "b"} & set(table)
    assert "\n# Options that are not known, and not told: a b=1, force, output, sign.\n" in text


def test_only_known_parameters_are_taken_from_the_manifest(small_artifact: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        defaults = dataclasses.replace(artifact.manifest.defaults, sampling={"top_k": 3, "force": True, "x\ny": 1})
    table = tomllib.loads(told(small_artifact, defaults=defaults))
    assert table["top-k"] == 3 and not {"force", "x\ny", "y"} & set(table)


def test_remarks_are_lines_of_their_own(small_artifact: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        kit = dataclasses.replace(artifact.manifest.kit, id="k\nforce = true\r\x0b\u2028\x85sign = 'x'\x1b[2J\x00")
    text = told(small_artifact, kit=kit, name="n\ninput", created_by="m\x0c\u2029e")
    first, rest = text.split("\n", 1)
    assert first == "# n input, made by m e with the kit k force = true sign = 'x'\ufffd[2J\ufffd"
    assert first.isprintable() and not {"force", "sign"} & set(tomllib.loads(text))
    assert rest.startswith("# The model is looked for beside this recipe.\n")
