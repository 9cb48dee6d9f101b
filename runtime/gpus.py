"""What a launch does about GPUs: looks at them, and says what of the model they would have to hold; decides nothing.

A file without a backend for GPUs pays nothing: all that is needed only for them is imported where it is needed.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.engine.arguments import EngineOptions, asked_of_gpus, projector_bytes
from mkllm.runtime.engine.modules import Modules
from mkllm.runtime.hardware.fit import Fit
from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.variants import GPUS

if TYPE_CHECKING:
    from mkllm.runtime.hardware.offload import Burden


def has_gpu_backend(artifact: Artifact) -> bool:
    """Whether the file can use GPUs at all."""
    return any(backend.name in GPUS for backend in artifact.manifest.backends)


def see_gpus(facts: Facts, artifact: Artifact, modules: Modules, frozen_home: str | None, kernel: str | None) -> Facts:
    """With a look at the GPUs of each backend that the file has for them, but not if another `kernel` is asked for."""
    known = {look.backend for look in facts.gpus}
    backends = [item for item in artifact.manifest.backends if item.name in GPUS and item.name not in known]
    wanted = [item for item in backends if kernel in (None, item.name)]
    if not wanted:
        return facts
    from mkllm.runtime.engine.look import look

    return replace(facts, gpus=(*facts.gpus, *look(wanted, modules.place_backends, frozen_home)))


def gpu_burden(artifact: Artifact, facts: Facts, fitted: Fit | None, options: EngineOptions) -> "Burden | None":
    """What there is to put on GPUs of the model as it was fitted (None: it could not be); None if none were seen."""
    if not facts.gpus:
        return None
    from mkllm.runtime.hardware.offload import burden_of

    manifest = artifact.manifest
    asked, projector = asked_of_gpus(manifest, options), projector_bytes(manifest, options)
    return burden_of(manifest.model, artifact.weights.size, fitted, asked, projector)


def with_gpu_memory(facts: Facts) -> Facts | None:
    """As if the memory of discrete GPUs were the machine's as well; None where none were seen."""
    if not facts.gpus:
        return None
    from mkllm.runtime.hardware.offload import with_gpu_memory

    return with_gpu_memory(facts)
