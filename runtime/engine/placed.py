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
    """Where the model lies: `length` bytes from `offset` in the open file `descriptor`; `packed`: prepacked."""

    descriptor: int
    offset: int
    length: int
    packed: bool = False

    def as_variable(self, name: str) -> str:
        """The value of MKLLM_EMBEDDED for one member."""
        return f"{name}={number(self.descriptor)}@{self.offset}:{self.length}{'p' if self.packed else ''}"
