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
class Embedded:
    """A member that the engine opens where it lies: `length` bytes from `offset` in the open file `descriptor`."""

    name: str
    descriptor: int
    offset: int
    length: int

    @property
    def entry(self) -> str:
        """What tells the engine where its `embedded:<name>` is (spec/launch.md, 3)."""
        return f"{self.name}={number(self.descriptor)}@{self.offset}:{self.length}"


@dataclass(frozen=True)
class Weights:
    """Where the model lies: `length` bytes from `offset` in the open file `descriptor`; `packed`: prepacked.

    `first` is the path of the first of the files that a model is split into, which the engine opens itself; `parts` are
    their descriptors. `others` are what it opens beside the model.
    """

    descriptor: int
    offset: int
    length: int
    packed: bool = False
    first: str | None = None
    parts: tuple[int, ...] = ()
    others: tuple[Embedded, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the engine has to inherit."""
        own = self.parts or (self.descriptor,)
        return tuple(dict.fromkeys([*own, *(other.descriptor for other in self.others)]))

    def variables(self, name: str) -> dict[str, str]:
        """What tells the engine where its `embedded:<name>` is (spec/launch.md, 3)."""
        entries = [other.entry for other in self.others]
        if not self.first:
            own = Embedded(name, self.descriptor, self.offset, self.length)
            entries.insert(0, own.entry + ("p" if self.packed else ""))
        split = {"MKLLM_SPLIT": f"{name}={self.first}"} if self.first else {}
        return {**split, **({"MKLLM_EMBEDDED": ";".join(entries)} if entries else {})}
