"""The plain GGUF of prepacked weights, restored by the engine (spec/launch.md, 3); knows not where it goes."""

import os
import subprocess
from collections.abc import Iterator

from mkllm.runtime.artifact.manifest import WEIGHTS
from mkllm.runtime.engine.environment import for_placed
from mkllm.runtime.engine.log import OWN
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.process import how_it_ended
from mkllm.runtime.errors import Different, EngineUnusable
from mkllm.runtime.platform.children import start

CHUNK = 1 << 20
REFUSED = 1


def restored(placed: Placed, weights: Weights, frozen_home: str | None) -> Iterator[bytes]:
    """The model file in pieces. Raises Different or EngineUnusable, at the latest at the end, when it is not whole."""
    environment = {**for_placed(os.environ, placed, frozen_home), **weights.variables(WEIGHTS)}
    try:
        process = start(
            [str(placed.program), "restore"],
            (*weights.descriptors, *placed.descriptors),
            environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise EngineUnusable(
            f"the engine that is to restore the weights cannot be executed ({error.strerror})"
        ) from None
    with process:
        assert process.stdout is not None and process.stderr is not None
        try:
            while piece := process.stdout.read(CHUNK):
                yield piece
            words = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        finally:
            process.kill()
    if process.returncode == REFUSED and words and words[-1].startswith(OWN):
        raise Different(f"the weights cannot be restored ({words[-1].removeprefix(OWN)}): copy the file again")
    if process.returncode:
        said = f": {words[-1]!r:.200}" if words else ""
        raise EngineUnusable(f"the engine that restored the weights {how_it_ended(process.returncode)}{said}")
