"""What the front is given to serve one artifact (spec/launch.md, 4); knows neither HTTP nor how engines start."""

from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Manifest
from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.engine.supervisor import Supervisor
from mkllm.runtime.hardware.rank import Ranking


@dataclass(frozen=True)
class FrontSettings:
    """Decided by the command line and the manifest's defaults.

    A port that is taken gives way to the next free one, unless `only_port`. `max_body` is in bytes.
    `notes` are sentences for a person about this launch, such as that the context was reduced.
    """

    host: str
    port: int
    api_keys: tuple[str, ...]
    allow_hosts: tuple[str, ...]
    allow_origins: tuple[str, ...]
    max_body: int
    open_browser: bool
    verbose: bool
    notes: tuple[str, ...]
    only_port: bool = False


@dataclass(frozen=True)
class Launch:
    """One launch of `serve`. `engine` is already starting when the front gets it; `context` is in tokens."""

    artifact: Artifact
    front: FrontSettings
    engine: Supervisor
    ranking: Ranking
    model_id: str
    context: int

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.artifact.manifest
