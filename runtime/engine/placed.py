"""What a start of the engine needs on disk, once it is there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mkllm.runtime.platform.children import number


@dataclass(frozen=True)
class Placed:
    """The engine where it can be executed.

    `modules` are the backends' files in the order to load them; `libraries` is a folder that the dynamic linker must be
    told of, None when it finds them by itself; `descriptors` must be inherited, because the files are links to them.
    `environment` is what these modules must be told.
    """

    program: Path
    modules: tuple[Path, ...]
    libraries: Path | None = None
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """Where the model lies: `length` bytes from `offset` in the open file `descriptor`; `packed`: prepacked.

    `first` is the path of the first of the files that a model is split into, which the engine opens itself; `parts` are
    their descriptors.
    """

    descriptor: int
    offset: int
    length: int
    packed: bool = False
    first: str | None = None
    parts: tuple[int, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the engine has to inherit."""
        return self.parts or (self.descriptor,)

    def variables(self, name: str) -> dict[str, str]:
        """What tells the engine where its `embedded:<name>` is (spec/launch.md, 3)."""
        if self.first:
            return {"MKLLM_SPLIT": f"{name}={self.first}"}
        place = f"{number(self.descriptor)}@{self.offset}:{self.length}"
        return {"MKLLM_EMBEDDED": f"{name}={place}{'p' if self.packed else ''}"}
